"""Puts the tensors of a checkpoint into the parameters they are for, once all of them fit."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from pymodel import _core
from pymodel.errors import CheckpointError
from pymodel.models.checkpoint import WeightFiles
from pymodel.models.config import CONFIG_FILE
from pymodel.tensor import Tensor, from_numpy

_LISTED = 20  # names of tensors that an error shows before it counts the rest


class NewWeightsWarning(UserWarning):
    """A checkpoint held no head for the model that was asked for, which begins with initial values."""


class Loadable(Protocol):
    """What loading asks of a model; see `PretrainedModel`."""

    base_model_prefix: ClassVar[str]
    ignored_on_load: ClassVar[tuple[str, ...]]
    renamed_on_load: ClassVar[tuple[tuple[str, str], ...]]
    optional_weights: ClassVar[tuple[str, ...]]

    @property
    def tied_weights(self) -> dict[str, str]: ...

    def state_dict(self) -> dict[str, Tensor]: ...


def load_weights(model: Loadable, files: WeightFiles, ignore_mismatched_sizes: bool = False) -> list[str]:
    """Copies the tensors of the files into the model, converting their dtype.

    One tensor at a time is read: memory never holds the checkpoint and the model.

    Args:
        ignore_mismatched_sizes: pass over tensors of another shape, such as those of a head for
            another number of classes.

    Returns: the parameters that got nothing: those that the files do not hold and a model may be
    without, such as a classifier's on top of a checkpoint of the bare model, and those passed over.

    Raises: CheckpointError, listing by name what is missing, unexpected or of another shape, and for
    tied weights that differ; nothing is changed then.
    """
    state = model.state_dict()
    wanted = {name: state[name] for name in state if name not in model.tied_weights}
    source = _sources(model, files, wanted)
    absent = [name for name in wanted if name not in source]
    new = [name for name in absent if _may_be_absent(model, name, source)]
    misshapen = [
        name for name in source if name in wanted and files.shape(source[name]) != wanted[name].shape
    ]
    if ignore_mismatched_sizes:
        new += misshapen
        source = {name: stored for name, stored in source.items() if name not in misshapen}
        misshapen = []
    problems = {
        "missing": [name for name in absent if name not in new],
        "unexpected": [name for name in source if name not in state],
        "of another shape": [
            f"{name} {files.shape(source[name])}, expected {wanted[name].shape}" for name in misshapen
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{what}: {listed(names)}" for what, names in problems.items() if names)
        way_out = f"use the {CONFIG_FILE} that belongs to these weights"
        if misshapen:
            way_out += ", or begin those of another shape anew with ignore_mismatched_sizes=True"
        raise CheckpointError(f"{files.folder}: the tensors do not fit {CONFIG_FILE}; {found}; {way_out}")
    _check_tied(model, files, source)
    for name, parameter in wanted.items():
        if name in source:
            array = files.read(source[name])
            if array.dtype == np.float64:  # no dtype of ours
                array = array.astype(np.float32)
            _core.copy(from_numpy(array)._array, parameter._array)
    return new


def warn_of_new(folder: object, names: Sequence[str]) -> None:
    """Says which parameters no checkpoint held."""
    if names:
        warnings.warn(
            f"{folder}: holds no {listed(names)} that fits; they have their initial values, "
            "so train the model first",
            NewWeightsWarning,
            stacklevel=4,
        )


def listed(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _sources(model: Loadable, files: WeightFiles, wanted: dict[str, Tensor]) -> dict[str, str]:
    """The tensor of the files that each name here is for, names that the model lacks included."""
    stored_names = {stored: _renamed(model, stored) for stored in files}
    renamed = set(stored_names.values())
    source = {}
    for stored, name in stored_names.items():
        here = _name_here(model, name, renamed, wanted)
        if here is not None:
            source[here] = stored
    for name, shared in model.tied_weights.items():
        if name in source:  # writers differ in which name of a shared tensor they keep
            source.setdefault(shared, source[name])
    return source


def _renamed(model: Loadable, name: str) -> str:
    for pattern, replacement in model.renamed_on_load:
        name = re.sub(pattern, replacement, name)
    return name


def _name_here(model: Loadable, stored: str, names: set[str], wanted: dict[str, Tensor]) -> str | None:
    """The parameter that a tensor of a checkpoint is for; None for what is none of ours.

    The bare model's names carry a prefix in checkpoints of models with a head, and none in its own;
    either kind may be read into either model.
    """
    if any(re.search(pattern, stored) for pattern in model.ignored_on_load):
        return None
    prefix = model.base_model_prefix + "."
    for name in (stored, prefix + stored, stored.removeprefix(prefix)):
        if name in wanted or name in model.tied_weights:
            return name
    if any(re.search(pattern, stored) for pattern in model.optional_weights):
        return None  # another model's head
    is_bare = not any(name.startswith(prefix) for name in wanted)
    of_a_head = not stored.startswith(prefix) and any(name.startswith(prefix) for name in names)
    return None if is_bare and of_a_head else stored


def _may_be_absent(model: Loadable, name: str, source: dict[str, str]) -> bool:
    """Whether a parameter belongs to a part that a checkpoint may be without, and is without as a
    whole: half a head is a damaged file."""
    for pattern in model.optional_weights:
        if re.search(pattern, name):
            return not any(re.search(pattern, present) for present in source)
    return False


def _check_tied(model: Loadable, files: WeightFiles, source: dict[str, str]) -> None:
    for name, shared in model.tied_weights.items():
        if name not in source or shared not in source:
            continue
        if not np.array_equal(files.read(source[name]), files.read(source[shared])):
            raise CheckpointError(
                f"{files.folder}: {name} differs from {shared}, with which it is tied; "
                f"set tie_word_embeddings to false in {CONFIG_FILE}"
            )
