"""All that a run needs to go on to the same bits, in the files of a checkpoint folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymodel import random
from pymodel.autograd import no_grad
from pymodel.errors import CheckpointError, ConfigError
from pymodel.files import atomic_file
from pymodel.models.checkpoint import WEIGHTS_FILE, WeightFiles, write_safetensors
from pymodel.nn import Module
from pymodel.optim import Optimizer
from pymodel.tensor import from_numpy
from pymodel.train.arguments import TrainingArguments
from pymodel.train.checkpoint import (
    STATE_FILE,
    checkpoints,
    new_checkpoint,
    read_json,
    remove_checkpoints,
    write_json,
)
from pymodel.train.feed import TrainingFeed
from pymodel.train.state import TrainerState
from pymodel.train.tensor_file import load_state, save_state

OPTIMIZER_FILE = "optimizer.safetensors"
SCHEDULER_FILE = "scheduler.json"
RANDOM_FILE = "rng_state.json"
DATA_FILE = "data_state.json"
ARGUMENTS_FILE = "training_args.json"


@dataclass
class RunParts:
    """The parts of a run that have a state of their own."""

    model: Module
    optimizer: Optimizer
    lr_scheduler: Any
    feed: TrainingFeed
    processing_class: Any = None


def save_snapshot(parts: RunParts, state: TrainerState, args: TrainingArguments) -> Path:
    """Writes `checkpoint-<step>` into the run's folder and returns it.

    Raises:
        CheckpointError: it cannot be written; earlier checkpoints are unchanged.
    """
    with new_checkpoint(args.output_dir, state.global_step) as folder:
        save_model(parts.model, parts.processing_class, folder)
        save_state(parts.optimizer.state_dict(), folder / OPTIMIZER_FILE)
        write_json(folder / SCHEDULER_FILE, parts.lr_scheduler.state_dict())
        write_json(folder / RANDOM_FILE, random.get_rng_state())
        write_json(folder / DATA_FILE, parts.feed.state_dict())
        write_json(folder / ARGUMENTS_FILE, args.to_dict())
        write_json(folder / STATE_FILE, state.to_dict())
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def load_snapshot(folder: Path, parts: RunParts) -> TrainerState:
    """Puts every part back to where `save_snapshot` found it.

    Raises:
        CheckpointError: a file is missing or damaged, or belongs to another model, optimizer or data.
    """
    state = TrainerState.from_dict(read_json(folder / STATE_FILE), folder / STATE_FILE)
    with _fitting(folder / WEIGHTS_FILE):
        _load_model(parts.model, folder)
    with _fitting(folder / OPTIMIZER_FILE):
        parts.optimizer.load_state_dict(load_state(folder / OPTIMIZER_FILE))
    with _fitting(folder / SCHEDULER_FILE):
        parts.lr_scheduler.load_state_dict(read_json(folder / SCHEDULER_FILE))
    with _fitting(folder / DATA_FILE):
        parts.feed.load_state_dict(read_json(folder / DATA_FILE))
    # Last: whatever the others draw while loading does not count.
    with _fitting(folder / RANDOM_FILE):
        random.set_rng_state(read_json(folder / RANDOM_FILE))
    return state


def save_model(model: Module, processing_class: Any, folder: Path) -> None:
    """Writes a model folder: Hugging Face's files when the model knows them, else its state alone."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        distinct = {parameter.data_ptr(): (name, parameter) for name, parameter in model.state_dict().items()}
        with atomic_file(folder / WEIGHTS_FILE, CheckpointError) as stream:
            write_safetensors(stream, dict(distinct.values()), {"format": "pt"})
    if processing_class is not None:
        processing_class.save_pretrained(folder)


def clear_folder(output_dir: str, overwrite: bool) -> None:
    """Makes sure that a run that starts anew does not mix its checkpoints with those of an earlier one.

    Raises:
        ConfigError: there are checkpoints and `overwrite` is not set.
    """
    found = checkpoints(output_dir)
    if not found:
        return
    if not overwrite:
        raise ConfigError(
            f"{output_dir}: holds {found[-1][1].name} of an earlier run; go on from it (resume auto), "
            "delete it (overwrite), or choose another folder"
        )
    remove_checkpoints(output_dir)


def _load_model(model: Module, folder: Path) -> None:
    """Copies the weights of a checkpoint into the model that is there."""
    files = WeightFiles(folder)
    state = model.state_dict()
    filled = set()  # addresses: tied weights have several names and are stored under one
    for name, parameter in state.items():
        if name not in files:
            continue
        stored = from_numpy(files.read(name))
        if (stored.shape, stored.dtype) != (parameter.shape, parameter.dtype):
            raise ValueError(
                f"{name} is {stored.dtype} {stored.shape}, the model has {parameter.dtype} {parameter.shape}"
            )
        with no_grad():
            parameter.copy_(stored)
        filled.add(parameter.data_ptr())
    missing = [name for name, parameter in state.items() if parameter.data_ptr() not in filled]
    unknown = [name for name in files if name not in state]
    if missing or unknown:
        raise ValueError(
            f"missing {', '.join(missing[:3]) or 'none'}, unknown {', '.join(unknown[:3]) or 'none'}"
        )


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Names the file when its content does not fit the run."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{path}: does not fit this run ({problem}); resume with the model and settings it was made with"
        ) from problem
