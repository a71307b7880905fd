"""A trainer around the tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_training import batches, one_thread, tiny_model

from pymodel.train import Trainer, TrainingArguments

__all__ = ["make_trainer", "one_thread"]


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Builds a trainer over the tiny model; keywords go to `TrainingArguments` or to the trainer."""
    own = (
        *("train_dataset", "eval_dataset", "callbacks", "optimizers", "processing_class"),
        *("eval_text_bytes", "device"),
    )

    def make(model: Any = None, **options: Any) -> Trainer:
        parts = {name: options.pop(name) for name in own if name in options}
        parts.setdefault("train_dataset", batches())
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 10,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        args = TrainingArguments(**{**defaults, **options})
        return Trainer(model if model is not None else tiny_model(), args, **parts)

    return make
