"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymodel import random
from pymodel.errors import ConfigError
from pymodel.nn import Module, packed_weights
from pymodel.optim import Optimizer, get_scheduler
from pymodel.tensor import Tensor, full
from pymodel.train.arguments import TrainingArguments
from pymodel.train.callbacks import CallbackList, TrainerCallback
from pymodel.train.checkpoint import choose_checkpoint, keep_newest, remove_leftovers
from pymodel.train.deferred import DeferredStep
from pymodel.train.evaluation import count_targets, evaluate_batches
from pymodel.train.feed import TrainingFeed, evaluation_batches
from pymodel.train.interrupts import StopRequests, TrainingInterrupted
from pymodel.train.ledger import StepLedger
from pymodel.train.metrics_file import MetricsFile
from pymodel.train.optimization import Outcome, create_optimizer, guarded_step, weighted_sum
from pymodel.train.progress import ProgressCallback
from pymodel.train.snapshot import RunParts, clear_folder, load_snapshot, save_model, save_snapshot
from pymodel.train.state import TrainerControl, TrainerState


@dataclass(frozen=True)
class TrainOutput:
    """What a training run comes to.

    Attributes:
        global_step: optimizer steps done.
        training_loss: mean loss over all the steps that counted, in nats; nan when there were none.
        metrics: `train_loss`, `train_runtime` in seconds, `train_tokens_per_second`, `epoch`,
            `skipped_steps`.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Trainer:
    """Trains a language model: accumulation, clipping, evaluation, checkpoints that resume to the same bits.

    The loss of a step is the mean over all the target tokens of its batches,

        loss = sum_b n_b loss_b / sum_b n_b,     n_b target tokens in batch b,

    so that accumulating over small batches is the same as one large batch.

    Args:
        model: called with the entries of a batch as keywords; gives an output with `.loss`, the mean over
            the target tokens, which are the labels from the second on that are not -100.
        args: see `TrainingArguments`.
        train_dataset: batches or examples, as `TrainingFeed` takes them.
        eval_dataset: a list of batches, a function that returns a fresh iterator over batches, or examples.
        processing_class: the tokenizer; saved with the model (it needs `save_pretrained`).
        callbacks: `TrainerCallback`s, called after the built-in ones.
        optimizers: an optimizer and a scheduler to use instead of AdamW and `args.lr_scheduler_type`.
        device: where to train; the model is moved there. Without it the model stays where it is.
        eval_text_bytes: UTF-8 bytes of the text behind `eval_dataset`: evaluation then gives bits per byte.
    """

    def __init__(
        self,
        model: Module,
        args: TrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
        optimizers: tuple[Optimizer | None, Any] = (None, None),
        eval_text_bytes: int | None = None,
        device: str | None = None,
    ) -> None:
        self.args = args or TrainingArguments()
        if self.args.eval_strategy != "no" and eval_dataset is None:
            raise ConfigError("eval_strategy: expected an eval_dataset to go with it, got none")
        self.model = model.to(dtype="bfloat16" if self.args.bf16 else None, device=device)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.processing_class = processing_class
        self._given_optimizers = optimizers
        # Both are made by `train`, which knows the number of steps.
        self.optimizer: Any = optimizers[0]
        self.lr_scheduler: Any = optimizers[1]
        self.eval_text_bytes = eval_text_bytes
        self.state, self.control = TrainerState(), TrainerControl()
        built_in: list[TrainerCallback] = [MetricsFile()]
        if not self.args.disable_tqdm:
            built_in.append(ProgressCallback())
        self.callbacks = CallbackList([*built_in, *callbacks])
        self._stop = StopRequests()
        self._ledger = StepLedger(self.state, self.args.max_skipped_steps)
        self._window_seconds, self._window_tokens = 0.0, 0

    # -- training -------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> TrainOutput:
        """Runs the training from the start or from a checkpoint.

        Args:
            resume_from_checkpoint: None starts anew, True takes the latest checkpoint of `output_dir`, "auto"
                does when there is one, a path names a checkpoint folder.

        Raises:
            ConfigError: there is no dataset, or a new run would mix with the checkpoints of an earlier one.
            CheckpointError: a checkpoint that cannot be read, or is of another model, or cannot be written.
            TrainingError: too many steps in a row whose loss or gradient is not finite.
            TrainingInterrupted: Ctrl-C or SIGTERM came; the step was finished and saved.
        """
        args = self.args
        if self.train_dataset is None:
            raise ConfigError("train_dataset: expected batches to train on, got none")
        checkpoint = choose_checkpoint(args.output_dir, resume_from_checkpoint)
        if checkpoint is None:
            clear_folder(args.output_dir, args.overwrite_output_dir)
        remove_leftovers(args.output_dir)
        feed = TrainingFeed(
            self.train_dataset, args.per_device_train_batch_size, args.seed, self._pad_token_id()
        )
        total_steps = self._total_steps(feed)
        self._make_optimizer(total_steps)
        self.state, self.control = TrainerState(), TrainerControl()
        random.manual_seed(args.seed)
        if checkpoint is not None:
            self.state = load_snapshot(checkpoint, self._parts(feed))
        self.state.max_steps = total_steps
        started, tokens_before = time.monotonic(), self.state.num_input_tokens_seen
        self.model.train()
        with self._stop:
            try:
                self._call("on_train_begin")
                keeps = args.keep_packed_weights and args.gradient_accumulation_steps > 1
                with packed_weights(self.model) if keeps else nullcontext():
                    self._loop(feed)
            finally:
                self._call("on_train_end")
                self._stop = StopRequests()
        return self._output(time.monotonic() - started, tokens_before)

    def _total_steps(self, feed: TrainingFeed) -> int:
        if self.args.max_steps >= 0:
            return self.args.max_steps
        if feed.batches_per_epoch is None:
            raise ConfigError(
                "max_steps: expected a number of steps, because the dataset does not tell its length; got -1"
            )
        batches = feed.batches_per_epoch * self.args.num_train_epochs
        return math.ceil(batches / self.args.gradient_accumulation_steps)

    def _make_optimizer(self, total_steps: int) -> None:
        optimizer, scheduler = self._given_optimizers
        self.optimizer = optimizer or create_optimizer(self.model, self.args)
        self.lr_scheduler = scheduler or get_scheduler(
            self.args.lr_scheduler_type,
            self.optimizer,
            num_warmup_steps=self.args.warmup_of(total_steps),
            num_training_steps=total_steps,
            scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
        )

    def _loop(self, feed: TrainingFeed) -> None:
        state, control = self.state, self.control
        saved_step = state.global_step
        self._window_seconds, self._window_tokens = 0.0, 0
        self._ledger = StepLedger(state, self.args.max_skipped_steps)
        while state.global_step < state.max_steps and not control.should_training_stop:
            batches = feed.take(self.args.gradient_accumulation_steps)
            if not batches:
                break
            self._call("on_step_begin")
            self._step(batches)
            state.global_step += 1
            state.epoch = feed.batches_taken / (feed.batches_per_epoch or math.inf)
            self._plan()
            if control.should_log or control.should_evaluate or control.should_save:
                self._ledger.settle()
            self._call("on_step_end", loss=self._ledger.last_loss)
            self._log_and_evaluate()
            if control.should_save or (self._stop.received and self.args.save_strategy != "no"):
                self._save_checkpoint(feed)
                saved_step = state.global_step
            if self._stop.received is not None:
                folder = Path(self.args.output_dir, f"checkpoint-{state.global_step}")
                saved = folder if saved_step == state.global_step else None
                raise TrainingInterrupted(self._stop.received, state.global_step, saved)
        # The data or a callback may end a run before the step that was to be the last.
        if self.args.save_strategy != "no" and saved_step < state.global_step:
            self._save_checkpoint(feed)

    def _step(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Forward, backward and update for the batches of one optimizer step."""
        started = time.perf_counter()
        counts = [self.count_targets(batch) for batch in batches]
        total = sum(counts)
        counted = [(batch, count / total) for batch, count in zip(batches, counts, strict=True) if count]
        weights = [weight for _, weight in counted]
        losses = [self._forward_backward(batch, weight) for batch, weight in counted]
        learning_rate = self.optimizer.param_groups[0]["lr"]
        outcome = self._update(losses, weights)
        self._ledger.enter(self.state.global_step + 1, learning_rate, outcome)
        self.lr_scheduler.step()
        self.state.num_input_tokens_seen += total
        self._window_tokens += total
        self._window_seconds += time.perf_counter() - started

    def _forward_backward(self, batch: Mapping[str, Any], weight: float) -> Tensor:
        """Adds `weight` times the gradients of a batch; returns its loss."""
        loss = self.compute_loss(self.model, batch)
        loss.backward(full(loss.shape, weight, loss.dtype, loss.device))
        return loss.detach()

    def _update(self, losses: Sequence[Tensor], weights: Sequence[float]) -> Outcome | DeferredStep:
        """The optimizer's step; on a device its outcome is read later."""
        limit = self.args.max_grad_norm
        if losses and losses[0].device != "cpu":
            return DeferredStep(self.optimizer, losses, weights, limit)
        loss = weighted_sum([float(loss.item()) for loss in losses], weights)
        return Outcome(loss, guarded_step(self.optimizer, loss, limit))

    def _plan(self) -> None:
        """Decides what follows this step; callbacks may change their mind about it."""
        args, step = self.args, self.state.global_step
        last = step >= self.state.max_steps
        self.control.should_log = (
            step % args.logging_steps == 0 or last or (step == 1 and args.logging_first_step)
        )
        eval_steps = args.eval_steps or args.logging_steps
        self.control.should_evaluate = args.eval_strategy == "steps" and (step % eval_steps == 0 or last)
        self.control.should_save = args.save_strategy == "steps" and (step % args.save_steps == 0 or last)

    def _log_and_evaluate(self) -> None:
        if self.control.should_log:
            self._log_window()
        if self.control.should_evaluate and self._stop.received is None:
            self._evaluate(self.eval_dataset, "eval")

    def _log_window(self) -> None:
        self._ledger.settle()
        state = self.state
        logs: dict[str, Any] = {}
        if state.window_steps:
            logs = {"loss": state.window_loss_sum / state.window_steps, **self._ledger.latest}
        if state.skipped_steps:
            logs["skipped_steps"] = state.skipped_steps
        logs["num_input_tokens_seen"] = state.num_input_tokens_seen
        logs["tokens_per_second"] = round(self._window_tokens / max(self._window_seconds, 1e-9), 1)
        state.window_loss_sum, state.window_steps = 0.0, 0
        self._window_seconds, self._window_tokens = 0.0, 0
        self.log(logs)

    def _save_checkpoint(self, feed: TrainingFeed) -> None:
        self._ledger.settle()
        folder = save_snapshot(self._parts(feed), self.state, self.args)
        keep_newest(self.args.output_dir, self.args.save_total_limit)
        self._call("on_save", checkpoint=folder)

    def _output(self, seconds: float, tokens_before: int) -> TrainOutput:
        self._ledger.settle()
        state = self.state
        counted = state.global_step - state.skipped_steps
        loss = state.loss_sum / counted if counted else math.nan
        tokens = state.num_input_tokens_seen - tokens_before
        metrics = {
            "train_loss": loss,
            "train_runtime": round(seconds, 3),
            "train_tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
            "epoch": state.epoch,
            "skipped_steps": state.skipped_steps,
        }
        return TrainOutput(state.global_step, loss, metrics)

    # -- evaluation -----------------------------------------------------------------------------

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """The loss on the evaluation data, without dropout; logged.

        Args:
            eval_dataset: instead of the trainer's own.
            metric_key_prefix: put before each name.

        Returns:
            `eval_loss` (nats a token), `eval_perplexity`, `eval_tokens`, `eval_runtime` (seconds),
            `eval_tokens_per_second`, and `eval_bits_per_byte` when `eval_text_bytes` is known.

        Raises:
            ConfigError: there is no evaluation data.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ConfigError("eval_dataset: expected batches to evaluate on, got none")
        return self._evaluate(dataset, metric_key_prefix)

    def _evaluate(self, dataset: Any, prefix: str) -> dict[str, float]:
        def after_batch() -> bool:
            self._call("on_prediction_step")
            return self._stop.received is not None

        batches = evaluation_batches(dataset, self.args.per_device_eval_batch_size, self._pad_token_id())
        result = evaluate_batches(
            self.model, batches, self.compute_loss, after_batch, self.args.keep_packed_weights
        )
        if result is None:  # Ctrl-C while training: what counts now is to save and leave
            return {}
        text_bytes = self.eval_text_bytes if dataset is self.eval_dataset else None
        metrics = result.metrics(prefix, text_bytes)
        self.log(metrics)
        self._call("on_evaluate", metrics=metrics)
        return metrics

    # -- parts a subclass may replace -----------------------------------------------------------

    def compute_loss(self, model: Module, batch: Mapping[str, Any]) -> Tensor:
        """The mean loss of a batch over its target tokens."""
        loss: Tensor = model(**batch).loss
        return loss

    def count_targets(self, batch: Mapping[str, Any]) -> int:
        """How many target tokens a batch has: its weight in an accumulated step."""
        return count_targets(batch)

    def log(self, logs: Mapping[str, Any]) -> None:
        """Adds a line to the log, with the epoch and step in it; what is not finite is left out."""
        finite = {
            name: value
            for name, value in logs.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        entry = {**finite, "epoch": round(self.state.epoch, 6), "step": self.state.global_step}
        self.state.log_history.append(entry)
        self._call("on_log", logs=entry)

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Writes the model and the tokenizer into a folder, `args.output_dir` unless another is named."""
        save_model(self.model, self.processing_class, Path(output_dir or self.args.output_dir))

    # -- small things ---------------------------------------------------------------------------

    def _parts(self, feed: TrainingFeed) -> RunParts:
        return RunParts(self.model, self.optimizer, self.lr_scheduler, feed, self.processing_class)

    def _pad_token_id(self) -> int:
        return getattr(self.processing_class, "pad_token_id", None) or 0

    def _call(self, hook: str, **extra: Any) -> None:
        context = {
            "model": self.model,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "processing_class": self.processing_class,
        }
        self.callbacks.call(hook, self.args, self.state, self.control, **context, **extra)
