"""What a training run is told, under the names that Hugging Face's TrainingArguments gave them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pymodel.errors import ConfigError
from pymodel.optim import SCHEDULES

_STRATEGIES = ("no", "steps")


@dataclass
class TrainingArguments:
    """The numbers of a training run.

    Args:
        output_dir: folder for checkpoints and metrics.jsonl; made when missing.
        overwrite_output_dir: delete the checkpoints of an earlier run in it instead of refusing to start.
        num_train_epochs: how often to go through the data when `max_steps` is not set; may be a fraction.
        max_steps: optimizer steps; -1 leaves it to `num_train_epochs`.
        per_device_train_batch_size: examples in a batch, when the dataset is a list of examples. Ready
            batches bring their own size.
        per_device_eval_batch_size: the same for evaluation.
        gradient_accumulation_steps: batches that make up one optimizer step; each target token in them
            counts the same, whatever batch it is in.
        keep_packed_weights: on the CPU, prepare weights for the products once for all batches of an optimizer
            step, or of an evaluation (`nn.packed_weights`). Takes up to three times the memory of the weights
            where batches are accumulated, and half of that while evaluating.
        learning_rate: the highest one of the schedule.
        lr_scheduler_type: a name that `optim.get_scheduler` knows, such as "linear", "cosine", "constant".
        lr_scheduler_kwargs: options of the schedule, such as {"min_lr_rate": 0.1}.
        warmup_steps: steps over which the learning rate rises from 0.
        warmup_ratio: the same as a share of all steps, when `warmup_steps` is 0.
        weight_decay: of weights with two or more dimensions; biases and normalisations never decay.
        adam_beta1, adam_beta2, adam_epsilon: of AdamW.
        max_grad_norm: gradients are scaled down to this global norm; 0 leaves them alone.
        max_skipped_steps: a step whose loss or gradient is not finite changes nothing; this many of them in a
            row end the run.
        logging_steps: steps between two lines of metrics.jsonl.
        logging_first_step: also log the very first step.
        eval_strategy: "no" or "steps".
        eval_steps: steps between evaluations; None takes `logging_steps`.
        save_strategy: "no" or "steps". With "steps" the last step is saved too.
        save_steps: steps between checkpoints.
        save_total_limit: how many checkpoints to keep; None keeps all.
        seed: of dropout and of the order of examples.
        bf16: train in bfloat16 with float32 master weights in the optimizer.
        disable_tqdm: show no progress on the terminal.

    Raises:
        ConfigError: a number that cannot be; the message names it.
    """

    output_dir: str = "trainer_output"
    overwrite_output_dir: bool = False
    num_train_epochs: float = 3.0
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    keep_packed_weights: bool = True
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    max_skipped_steps: int = 10
    logging_steps: int = 500
    logging_first_step: bool = False
    eval_strategy: str = "no"
    eval_steps: int | None = None
    save_strategy: str = "steps"
    save_steps: int = 500
    save_total_limit: int | None = None
    seed: int = 42
    bf16: bool = False
    disable_tqdm: bool = False

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_numbers()
        for name, known in (
            ("eval_strategy", _STRATEGIES),
            ("save_strategy", _STRATEGIES),
            ("lr_scheduler_type", SCHEDULES),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")

    def _check_counts(self) -> None:
        least = {
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "warmup_steps": 0,
            "max_skipped_steps": 1,
            "logging_steps": 1,
            "eval_steps": 1,
            "save_steps": 1,
            "save_total_limit": 1,
            "seed": 0,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is None and name in ("eval_steps", "save_total_limit"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise ConfigError(f"{name}: expected a whole number of {minimum} or more, got {value!r}")
        steps: Any = self.max_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < -1:
            raise ConfigError(
                f"max_steps: expected a whole number of 0 or more, or -1 to go by num_train_epochs, got "
                f"{steps!r}"
            )

    def _check_numbers(self) -> None:
        # The upper end does not belong to the range, except that of warmup_ratio.
        ranges = {
            "num_train_epochs": (0.0, math.inf),
            "learning_rate": (0.0, math.inf),
            "warmup_ratio": (0.0, 1.0 + 1e-12),
            "weight_decay": (0.0, math.inf),
            "adam_beta1": (0.0, 1.0),
            "adam_beta2": (0.0, 1.0),
            "adam_epsilon": (0.0, math.inf),
            "max_grad_norm": (0.0, math.inf),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
                upper = "" if high == math.inf else f" and below {high:g}"
                raise ConfigError(f"{name}: expected a number of {low:g} or more{upper}, got {value!r}")

    def warmup_of(self, total_steps: int) -> int:
        """Warm-up steps of a run of `total_steps`."""
        return self.warmup_steps or math.ceil(self.warmup_ratio * total_steps)

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain values, as training_args.json holds them."""
        return dict(vars(self))
