"""Nested states with tensors in them, such as an optimizer's, in one safetensors file.

The tensors are written straight from their memory, without a copy of the whole in between. The rest of
the state is kept as JSON in the file's metadata.
Source of the format: https://huggingface.co/docs/safetensors, section "Format".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymodel.errors import CheckpointError
from pymodel.tensor import Tensor, dtype_of, from_numpy, numpy_dtype
from pymodel.text import atomic_file

_FORMAT_NAMES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}
_OUR_NAMES = {value: key for key, value in _FORMAT_NAMES.items()}
_TENSOR_KEY = "__tensor__"
_LENGTH_BYTES = 8


def save_state(state: Any, path: str | os.PathLike[str]) -> None:
    """Writes nested dicts and lists of tensors, arrays, numbers, strings and None.

    Keys of dicts may be strings or integers.

    Raises:
        CheckpointError: the file cannot be written; an earlier one is unchanged.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _without_tensors(state, "", arrays)
    header: dict[str, Any] = {"__metadata__": {"format": "pymodel", "state": json.dumps(tree)}}
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _FORMAT_NAMES[dtype_of(array)],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8 bytes
    with atomic_file(path, CheckpointError) as stream:
        stream.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for array in arrays.values():
            stream.write(memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))


def load_state(path: str | os.PathLike[str]) -> Any:
    """Reads what `save_state` wrote, with `Tensor`s where tensors or arrays were.

    Raises:
        CheckpointError: the file is missing, truncated or of another format.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if _LENGTH_BYTES + length > size:
                raise ValueError(f"its header says {length} bytes, the file has {size}")
            header = json.loads(stream.read(length))
            data_start = _LENGTH_BYTES + length
            end = max((entry["data_offsets"][1] for name, entry in _tensors(header)), default=0)
            if data_start + end != size:
                raise ValueError(f"expected {data_start + end} bytes, got {size}")
            tensors = {
                name: _read_tensor(stream, data_start, entry) for name, entry in _tensors(header)
            }
        return _with_tensors(json.loads(header["__metadata__"]["state"]), tensors)
    except OSError as problem:
        raise CheckpointError(
            f"{path}: cannot be read ({problem.strerror or problem}); resume from another checkpoint"
        ) from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{path}: truncated or damaged ({problem}); resume from an earlier checkpoint"
        ) from problem


def _tensors(header: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, entry) for name, entry in header.items() if name != "__metadata__"]


def _read_tensor(stream: Any, data_start: int, entry: Mapping[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    stream.seek(data_start + begin)
    array = np.empty(entry["shape"], numpy_dtype(_OUR_NAMES[entry["dtype"]]))
    if array.nbytes != end - begin:
        raise ValueError(f"a tensor of shape {entry['shape']} has {end - begin} bytes")
    stream.readinto(memoryview(array.reshape(-1).view(np.uint8)))
    return from_numpy(array)


def _without_tensors(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The state with each tensor replaced by its name; the tensors go to `arrays`."""
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[name] = value.numpy() if isinstance(value, Tensor) else value
        return {_TENSOR_KEY: name}
    if isinstance(value, Mapping):
        # Pairs, because the keys of JSON objects are strings and an optimizer counts its parameters.
        pairs = [
            [key, _without_tensors(item, f"{name}.{key}" if name else str(key), arrays)]
            for key, item in value.items()
        ]
        return {"__dict__": pairs}
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
        return {key: _with_tensors(item, tensors) for key, item in tree["__dict__"]}
    if isinstance(tree, list):
        return [_with_tensors(item, tensors) for item in tree]
    return tree
