"""What a run looks like on the terminal: a bar with loss, speed and time left, or plain lines."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pymodel.train.arguments import TrainingArguments
from pymodel.train.callbacks import TrainerCallback
from pymodel.train.state import TrainerControl, TrainerState

_SPEED_STEPS = 20  # the speed shown is that of the latest steps
_LOSS_MEMORY = 0.9  # of the running mean shown, which tells more than the loss of one batch


class ProgressCallback(TrainerCallback):
    """Shows step, loss, tokens/s and time left on stderr.

    On a terminal this is a bar; elsewhere (a file, a pipe) it is one line for each line of the log.

    Args:
        console: where to; stderr by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._loss: float | None = None
        self._marks: deque[tuple[float, int]] = deque(maxlen=_SPEED_STEPS + 1)
        self._started, self._first_step = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        self._loss = None
        self._marks.clear()
        self._started, self._first_step = time.monotonic(), state.global_step
        self._marks.append((self._started, state.num_input_tokens_seen))
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task(
            "training", total=state.max_steps, completed=state.global_step, facts=""
        )
        self._progress.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        loss = context["loss"]
        if loss == loss:  # a skipped step may have none
            memory = _LOSS_MEMORY if self._loss is not None else 0.0
            self._loss = memory * (self._loss or 0.0) + (1.0 - memory) * loss
        self._marks.append((time.monotonic(), state.num_input_tokens_seen))
        if self._progress is not None:
            shown = "-" if self._loss is None else f"{self._loss:.3f}"
            self._progress.update(
                self._task,
                completed=state.global_step,
                description="training",
                facts=f"loss {shown}  {self._speed():,.0f} tokens/s",
            )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        if self._progress is None and self._marks:
            self._console.print(self._line(state, context["logs"]), highlight=False, soft_wrap=True)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        if self._progress is not None:
            self._progress.update(self._task, description="evaluating")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        if self._progress is not None:
            self._progress.update(self._task, description="training")
            self._progress.console.print(self._line(state, context["metrics"]), highlight=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        self._marks.clear()
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _speed(self) -> float:
        (begin, tokens_before), (end, tokens) = self._marks[0], self._marks[-1]
        return (tokens - tokens_before) / max(end - begin, 1e-9)

    def _line(self, state: TrainerState, logs: dict[str, Any]) -> str:
        """One log line in words: what it measured, and how long the run still takes."""
        formats = {
            "loss": "loss {:.4f}",
            "eval_loss": "held-out loss {:.4f}",
            "eval_perplexity": "perplexity {:.2f}",
            "eval_bits_per_byte": "{:.3f} bits per byte",
            "grad_norm": "grad norm {:.3g}",
            "learning_rate": "learning rate {:.3g}",
            "tokens_per_second": "{:,.0f} tokens/s",
            "skipped_steps": "{} steps skipped",
        }
        facts = [text.format(logs[name]) for name, text in formats.items() if name in logs]
        done = state.global_step - self._first_step
        if "loss" in logs and done:
            left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
            facts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        return f"step {state.global_step}/{state.max_steps}  " + "  ".join(facts)
