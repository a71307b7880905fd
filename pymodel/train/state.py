"""Where a training run is: what callbacks see and checkpoints keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pymodel.errors import CheckpointError


@dataclass
class TrainerState:
    """Progress of a run, under Hugging Face's names where it has one.

    Attributes:
        global_step: optimizer steps done, skipped ones included.
        max_steps: steps the run is to have.
        epoch: how often the data was gone through, with fractions.
        num_input_tokens_seen: target tokens learnt from.
        skipped_steps: steps left out because the loss or gradient was not finite.
        skipped_in_a_row: how many of them were the latest ones.
        loss_sum: losses of all the steps that counted, summed.
        window_loss_sum, window_steps: the same since the last log line.
        log_history: every log line.
    """

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    num_input_tokens_seen: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    window_loss_sum: float = 0.0
    window_steps: int = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The content of trainer_state.json; floats come back to the same bits."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any, path: Path) -> TrainerState:
        """Takes what `to_dict` gave.

        Raises:
            CheckpointError: values are of another form; `path` is named in the message.
        """
        known = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or not isinstance(values.get("global_step"), int):
            raise CheckpointError(f"{path}: no state of a trainer; resume from an earlier checkpoint")
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass
class TrainerControl:
    """What a callback may ask the trainer to do once the step is over."""

    should_training_stop: bool = False
    should_log: bool = False
    should_evaluate: bool = False
    should_save: bool = False
