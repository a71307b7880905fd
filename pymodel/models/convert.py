"""Model folders rewritten in another dtype or other shards, tensor by tensor: no model is built, so any
family will do and memory holds one tensor at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pymodel.dtypes import numpy_dtype
from pymodel.errors import CheckpointError, ConfigError
from pymodel.files import atomic_file
from pymodel.hub import resolve_folder
from pymodel.models.checkpoint import WeightFiles
from pymodel.models.config import CONFIG_FILE, read_config
from pymodel.models.shards import write_model_files

# What goes along as it is, where it is there.
_COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was written: tensors, the bytes of their elements, files of weights, names of the companions."""

    tensors: int
    nbytes: int
    files: int
    companions: tuple[str, ...]


def convert_folder(
    name: str | os.PathLike[str],
    out: str | os.PathLike[str],
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
) -> Converted:
    """Writes a model folder anew, and copies its tokenizer and its defaults for generating.

    Args:
        name: a folder, or a repository of the hub, with safetensors.
        out: another folder, made when missing; a model that it holds is replaced.
        dtype: of the weights: float32, float16 or bfloat16; None leaves each as it is. Tensors of
            integers stay so.
        max_shard_size: as in `PretrainedModel.save_pretrained`.

    Raises: ConfigError for out, dtype or the size; CheckpointError for files that are missing or damaged
    and for numbers that float16 cannot hold. Nothing is written then.
    """
    folder, target = resolve_folder(name), Path(out)
    if target.exists() and target.samefile(folder):
        raise ConfigError(f"out: {target} is the folder that is read; name another one")
    config = read_config(folder)
    if dtype is not None:
        config.update(dtype=dtype, torch_dtype=dtype)
    files = WeightFiles(folder)
    weights = {stored: _Weight(files, stored, dtype) for stored in files}
    texts = {CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True) + "\n"}
    shards = write_model_files(target, weights, texts, max_shard_size)
    companions = tuple(companion for companion in _COMPANIONS if (folder / companion).is_file())
    for companion in companions:
        with open(folder / companion, "rb") as old, atomic_file(target / companion, CheckpointError) as new:
            shutil.copyfileobj(old, new)
    return Converted(len(weights), sum(weight.nbytes for weight in weights.values()), shards, companions)


class _Weight:
    """A tensor of a checkpoint that is read, and cast, when it is written."""

    def __init__(self, files: WeightFiles, name: str, dtype: str | None) -> None:
        self._stored = files.stored(name)
        self._name = name
        floating = self._stored.dtype.kind not in "iub"
        self.dtype = numpy_dtype(dtype) if dtype is not None and floating else self._stored.dtype
        self.shape = self._stored.shape
        self.nbytes = self._stored.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.dtype == self._stored.dtype:
            return self._stored
        with np.errstate(over="ignore"):
            cast = self._stored.astype(self.dtype)
        if self.dtype == np.float16:
            beyond = np.isinf(cast) & ~np.isinf(self._stored)
            if beyond.any():
                value = float(self._stored[beyond].flat[0])
                raise CheckpointError(
                    f"{self._name} holds {value:g}, and float16 ends at 65504; convert to bfloat16 instead"
                )
        return cast
