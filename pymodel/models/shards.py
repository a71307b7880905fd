"""Writes a model folder: its texts and its weights, in one file or in several with an index."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pymodel.errors import CheckpointError, ConfigError
from pymodel.files import atomic_file
from pymodel.models.checkpoint import INDEX_FILE, WEIGHTS_FILE, Storable, write_safetensors

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def write_model_files(
    folder: Path, weights: Mapping[str, Storable], texts: Mapping[str, str], max_shard_size: int | str
) -> int:
    """Writes all files of a model folder, or none, and returns how many of them hold weights.

    Args:
        folder: is made when missing.
        weights: tensors by the names they get.
        texts: contents of other files, such as config.json, by their names.
        max_shard_size: of one file of weights, as in `parse_size`. A tensor is never cut.

    Raises: ConfigError for the size; CheckpointError when something cannot be written: earlier files
    are then unchanged.
    """
    shards = split_into_shards(weights, parse_size(max_shard_size))
    names = [WEIGHTS_FILE]
    if len(shards) > 1:
        names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
        texts = {**texts, INDEX_FILE: _index(dict(zip(names, shards, strict=True)))}
    # Nothing takes its name before everything is on the disk: the files fit together.
    with contextlib.ExitStack() as stack:
        for name, text in texts.items():
            stream = stack.enter_context(atomic_file(folder / name, CheckpointError))
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        for name, tensors in zip(names, shards, strict=True):
            stream = stack.enter_context(atomic_file(folder / name, CheckpointError))
            write_safetensors(stream, tensors, {"format": "pt"})
    _remove_stale(folder, {*names, *texts})
    return len(names)


def split_into_shards(weights: Mapping[str, Storable], most: int) -> list[dict[str, Storable]]:
    """Consecutive groups of tensors of `most` bytes together, or of one tensor that is larger."""
    shards: list[dict[str, Storable]] = [{}]
    used = 0
    for name, tensor in weights.items():
        if shards[-1] and used + tensor.nbytes > most:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    return shards


def parse_size(size: int | str) -> int:
    """Bytes of a size such as 10_000_000, "10MB" or "1.5GiB"; ConfigError for anything else."""
    text = str(size).strip().upper()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text)
    if isinstance(size, bool) or found is None or found[2] not in _UNITS:
        raise ConfigError(f"max_shard_size must be bytes or a size such as 500MB or 5GB, got {size!r}")
    number = int(float(found[1]) * _UNITS[found[2]])
    if number < 1:
        raise ConfigError(f"max_shard_size must be at least 1 byte, got {size!r}")
    return number


def _index(shards: Mapping[str, Mapping[str, Storable]]) -> str:
    """The text of model.safetensors.index.json."""
    total = sum(tensor.nbytes for tensors in shards.values() for tensor in tensors.values())
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    content = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _remove_stale(folder: Path, written: set[str]) -> None:
    """Removes the weights of an earlier model: an index or a file beside the new ones would be read
    in their place."""
    for path in folder.iterdir():
        is_weights = path.name in (WEIGHTS_FILE, INDEX_FILE) or _SHARD.fullmatch(path.name)
        if is_weights and path.name not in written:
            with contextlib.suppress(OSError):
                path.unlink()
