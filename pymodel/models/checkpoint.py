"""Weights on disk: safetensors files, one or several with an index, read tensor by tensor.

Format: https://huggingface.co/docs/safetensors (eight bytes of header length, a JSON header with
every tensor's dtype, shape and place, then the elements).
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from pymodel.dtypes import numpy_dtype
from pymodel.errors import CheckpointError
from pymodel.models.config import read_json
from pymodel.tensor import Tensor

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")

_FORMAT_NAMES = {
    np.dtype(np.float64): "F64",
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.int64): "I64",
    np.dtype(np.int32): "I32",
    np.dtype(np.uint8): "U8",
    np.dtype(np.bool_): "BOOL",
}
_FLOATING = {kind: dtype for dtype, kind in _FORMAT_NAMES.items() if kind in ("F64", "F32", "F16", "BF16")}
_INTEGERS = {kind: dtype for dtype, kind in _FORMAT_NAMES.items() if kind not in _FLOATING}


class Storable(Protocol):
    """What can be written: arrays, tensors, and what NumPy makes an array of when its turn comes."""

    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A tensor of a file: its bytes there, the format's name of its dtype, its shape."""

    path: Path
    content: np.ndarray  # (bytes,) uint8, a part of the mapped file
    kind: str
    shape: tuple[int, ...]


class WeightFiles:
    """The weights of a model folder: names at once, elements when asked for.

    Files are mapped into memory: what is read are the pages of the file themselves, so that reading a
    model copies each number once and holds nothing besides it.

    Args:
        folder: holds `model.safetensors`, or `model.safetensors.index.json` and its shards.

    Raises: CheckpointError when the files are missing, truncated or only there as pickles.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._entries: dict[str, _Entry] = {}
        for path in _weight_files(self.folder):
            self._entries.update(_mapped(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @property
    def dtype(self) -> str:
        """The dtype of most tensors, float32 for those of float64."""
        kinds = collections.Counter(entry.kind for entry in self._entries.values())
        names = {"F16": "float16", "BF16": "bfloat16"}
        return names.get(kinds.most_common(1)[0][0], "float32") if kinds else "float32"

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the header."""
        return self._entries[name].shape

    def read(self, name: str) -> np.ndarray:
        """A tensor's elements, read-only, in the file's memory.

        Raises: CheckpointError when they are no floating-point numbers, as in quantised files.
        """
        entry = self._entries[name]
        if entry.kind not in _FLOATING:
            raise CheckpointError(
                f"{entry.path}: {name} is {entry.kind}; expected {', '.join(_FLOATING)}, "
                "use a checkpoint that is not quantised"
            )
        return _elements(entry, _FLOATING[entry.kind])

    def stored(self, name: str) -> np.ndarray:
        """As `read`, but of any dtype that this library writes, integers too."""
        entry = self._entries[name]
        return _elements(entry, _INTEGERS[entry.kind]) if entry.kind in _INTEGERS else self.read(name)


def _elements(entry: _Entry, dtype: np.dtype) -> np.ndarray:
    array: np.ndarray = entry.content.view(dtype).reshape(entry.shape)
    # The format leaves alignment to the writer, and old ones did not care.
    return array if array.flags.aligned else array.copy()


def _mapped(path: Path) -> dict[str, _Entry]:
    """The tensors of a safetensors file, which the library checks and NumPy maps: the library's own
    reader hands out copies, at a third of the speed."""
    try:
        with safe_open(path, framework="numpy"):
            content = np.memmap(path, dtype=np.uint8, mode="r")
        length = struct.unpack("<Q", content[:8].tobytes())[0]
        header = json.loads(content[8 : 8 + length].tobytes())
    except (SafetensorError, OSError, ValueError, struct.error) as problem:
        raise _damaged(path, problem) from None
    header.pop("__metadata__", None)
    data = content[8 + length :]
    return {
        name: _Entry(path, data[slice(*entry["data_offsets"])], entry["dtype"], tuple(entry["shape"]))
        for name, entry in header.items()
    }


def write_safetensors(stream: BinaryIO, tensors: Mapping[str, Storable], metadata: Mapping[str, str]) -> None:
    """Writes arrays in the safetensors format, without a second copy of them in memory: tensors of
    other devices come to the host one at a time.

    The library's own writer picks the file's name and permissions itself, which leaves no room for
    replacing several files of a folder together.

    Args:
        tensors: by name, of float64, float32, float16, bfloat16, int64, int32, uint8
            or bool.
        metadata: text that readers see; transformers asks for {"format": "pt"}.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    # Wide elements first, as the library orders them: every tensor then starts at a multiple of its
    # element size.
    dtypes = {name: _dtype_on_host(value) for name, value in tensors.items()}
    order = sorted(tensors, key=lambda name: (-dtypes[name].itemsize, name))
    for name in order:
        array = tensors[name]
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _FORMAT_NAMES[dtypes[name]],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        content: Any = tensors[name]
        stream.write(np.ascontiguousarray(content).reshape(-1).view(np.uint8).data)


def _dtype_on_host(value: Storable) -> np.dtype:
    return numpy_dtype(value.dtype) if isinstance(value, Tensor) else value.dtype


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        shards = read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"{folder / INDEX_FILE}: holds no 'weight_map' of files; copy it again")
        paths = [folder / name for name in sorted(set(shards.values()))]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise CheckpointError(
                f"{folder}: {INDEX_FILE} names {', '.join(missing)}, not in the folder; "
                "copy the missing files"
            )
        return paths
    for pattern in _PICKLES:
        for path in sorted(folder.glob(pattern)):
            raise CheckpointError(
                f"{path}: a pickle, which may run any code when it is read; where you trust it, "
                "convert it once with transformers: "
                "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
            )
    raise CheckpointError(f"{folder}: no {WEIGHTS_FILE} in it; name a folder that save_pretrained wrote")


def _damaged(path: Path, problem: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: truncated or no safetensors file ({problem}); copy it again")
