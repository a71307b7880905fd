"""Nested states with tensors in them, such as an optimizer's, in one safetensors file.

The rest of the state is kept as JSON in the file's metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pymodel.errors import CheckpointError
from pymodel.files import atomic_file
from pymodel.models.checkpoint import write_safetensors
from pymodel.tensor import Tensor, from_numpy

_TENSOR_KEY = "__tensor__"
_DICT_KEY = "__dict__"


def save_state(state: Any, path: str | os.PathLike[str]) -> None:
    """Writes nested dicts and lists of tensors, arrays, numbers, strings and None.

    Keys of dicts may be strings or integers. Tensors are written from their own memory, not
    copied before; those of other devices come to the host one at a time.

    Raises:
        CheckpointError: the file cannot be written; an earlier one is unchanged.
    """
    arrays: dict[str, np.ndarray[Any, Any] | Tensor] = {}
    tree = _without_tensors(state, "", arrays)
    with atomic_file(path, CheckpointError) as stream:
        write_safetensors(stream, arrays, {"state": json.dumps(tree)})


def load_state(path: str | os.PathLike[str]) -> Any:
    """Reads what `save_state` wrote, with `Tensor`s where tensors or arrays were.

    Raises:
        CheckpointError: the file is missing, truncated or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tree = json.loads(file.metadata()["state"])
            return _with_tensors(tree, {name: from_numpy(file.get_tensor(name)) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; resume from another checkpoint") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{path}: truncated or damaged ({problem}); resume from an earlier checkpoint"
        ) from problem


def _without_tensors(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any] | Tensor]) -> Any:
    """The state with each tensor replaced by its name; the tensors go to `arrays`."""
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[name] = value
        return {_TENSOR_KEY: name}
    if isinstance(value, Mapping):
        # Pairs, because the keys of JSON objects are strings and an optimizer counts its parameters.
        pairs = [
            [key, _without_tensors(item, f"{name}.{key}" if name else str(key), arrays)]
            for key, item in value.items()
        ]
        return {_DICT_KEY: pairs}
    if isinstance(value, (list, tuple)):
        return [
            _without_tensors(item, f"{name}.{index}" if name else str(index), arrays)
            for index, item in enumerate(value)
        ]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"state: {name} is a {type(value).__name__}, which has no place in a checkpoint")


def _with_tensors(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR_KEY in tree:
            return tensors[tree[_TENSOR_KEY]]
        return {key: _with_tensors(item, tensors) for key, item in tree[_DICT_KEY]}
    if isinstance(tree, list):
        return [_with_tensors(item, tensors) for item in tree]
    return tree
