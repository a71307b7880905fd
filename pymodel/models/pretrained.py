"""What all models share: model folders read and written whole, and generation."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from pymodel import _core, nn
from pymodel.errors import CheckpointError
from pymodel.files import atomic_file
from pymodel.models.checkpoint import INDEX_FILE, WEIGHTS_FILE, WeightFiles, write_safetensors
from pymodel.models.config import CONFIG_FILE, PretrainedConfig
from pymodel.tensor import Tensor, from_numpy

GENERATION_FILE = "generation_config.json"
_LISTED = 5  # names of tensors that an error shows before it counts the rest

Model = TypeVar("Model", bound="PretrainedModel")


class PretrainedModel(nn.Module):
    """Base of the models: a module with a configuration, read from and written to a folder.

    A subclass has a constructor (config, dtype, device), and sets `config_class`,
    `base_model_prefix`, the name under which models with a head hold the bare model, and
    `ignored_on_load`, patterns of names in checkpoints that are no weights.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    base_model_prefix: ClassVar[str] = ""
    ignored_on_load: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names that checkpoints leave out, and the parameters that they share."""
        return {}

    @property
    def dtype(self) -> str:
        """The dtype of the parameters."""
        return next(iter(self.parameters())).dtype

    @classmethod
    def from_pretrained(
        cls: type[Model],
        folder: str | os.PathLike[str],
        dtype: str | None = None,
        device: str | None = None,
        *,
        config: PretrainedConfig | None = None,
        **changes: Any,
    ) -> Model:
        """Reads a model folder: `config.json` and `model.safetensors`, whole or in shards.

        Checkpoints of the bare model and of the model with a head are both accepted. The model
        comes back in evaluation mode.

        Args:
            folder: a folder on this machine.
            dtype: of the parameters; that of the file when None.
            device: where they live.
            config: in place of the folder's `config.json`.
            changes: keys of the configuration to replace, such as resid_pdrop=0.0.

        Raises: CheckpointError when files are missing, damaged or hold other tensors than the
        configuration asks for, listing them by name; ConfigError for the configuration.
        """
        if config is None:
            config = cls.config_class.from_pretrained(folder)
        if changes:
            config = cls.config_class.from_dict({**config.to_dict(), **changes})
        files = WeightFiles(folder)
        with nn.init.no_init():
            model = cls(config, dtype or files.dtype, device)  # type: ignore[call-arg]
        model._load(files)
        model.eval()
        return model

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes `config.json`, `model.safetensors` and `generation_config.json`, which
        transformers reads as well.

        Raises: CheckpointError when they cannot be written; earlier files are then unchanged.
        """
        folder = Path(folder)
        weights = {
            name: parameter for name, parameter in self.state_dict().items() if name not in self.tied_weights
        }
        config = self.config.to_json(
            architectures=[type(self).__name__], dtype=self.dtype, torch_dtype=self.dtype
        )
        # Nothing takes its name before everything is on the disk: the files fit together.
        with contextlib.ExitStack() as stack:
            for name, text in ((CONFIG_FILE, config), (GENERATION_FILE, _generation_config(self.config))):
                stream = stack.enter_context(atomic_file(folder / name, CheckpointError))
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            stream = stack.enter_context(atomic_file(folder / WEIGHTS_FILE, CheckpointError))
            write_safetensors(stream, weights, {"format": "pt"})
        # An index of earlier shards would name files that are no longer the model's.
        with contextlib.suppress(OSError):
            (folder / INDEX_FILE).unlink(missing_ok=True)

    def _load(self, files: WeightFiles) -> None:
        """Copies the tensors of the files into the parameters, once all names and shapes fit."""
        state = self.state_dict()
        wanted = {name: state[name] for name in state if name not in self.tied_weights}
        names = {stored: self._name_here(stored, files, wanted) for stored in files}
        source = {name: stored for stored, name in names.items() if name is not None}
        misshapen = [
            f"{name} {files.shape(stored)}, expected {wanted[name].shape}"
            for name, stored in source.items()
            if name in wanted and files.shape(stored) != wanted[name].shape
        ]
        problems = {
            "missing": [name for name in wanted if name not in source],
            "unexpected": [name for name in source if name not in state],
            "of another shape": misshapen,
        }
        if any(problems.values()):
            found = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
            raise CheckpointError(
                f"{files.folder}: the tensors do not fit {CONFIG_FILE}; {found}; "
                f"use the {CONFIG_FILE} that belongs to these weights"
            )
        for name, shared in self.tied_weights.items():
            if name in source and not np.array_equal(files.read(source[name]), files.read(source[shared])):
                raise CheckpointError(
                    f"{files.folder}: {name} differs from {shared}, with which it is tied; "
                    f"set tie_word_embeddings to false in {CONFIG_FILE}"
                )
        for name, parameter in wanted.items():
            array = files.read(source[name])
            if array.dtype == np.float64:  # no dtype of ours
                array = array.astype(np.float32)
            _core.copy(from_numpy(array)._array, parameter._array)

    def _name_here(self, stored: str, files: WeightFiles, wanted: dict[str, Tensor]) -> str | None:
        """The parameter that a tensor of a checkpoint is for; None for what is none of ours.

        The bare model's names carry a prefix in checkpoints of models with a head, and none in its
        own; either kind may be read into either model.
        """
        if any(re.search(pattern, stored) for pattern in self.ignored_on_load):
            return None
        prefix = self.base_model_prefix + "."
        for name in (stored, prefix + stored, stored.removeprefix(prefix)):
            if name in wanted or name in self.tied_weights:
                return name
        is_bare = not any(name.startswith(prefix) for name in wanted)
        of_a_head = not stored.startswith(prefix) and any(name.startswith(prefix) for name in files)
        return None if is_bare and of_a_head else stored


class GenerationMixin:
    """Adds `generate` to a language model."""

    def generate(
        self,
        input_ids: Any,
        max_new_tokens: int = 64,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 50,
        top_p: float = 1.0,
        seed: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Continues a batch of prompts; see `pymodel.generate.generate`."""
        from pymodel.generate import generate

        return generate(
            self, input_ids, max_new_tokens, do_sample, temperature, top_k, top_p, seed, **options
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _generation_config(config: PretrainedConfig) -> str:
    """The text of transformers' generation_config.json, with the tokens that begin and end a text."""
    tokens = {name: getattr(config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    content = {name: token for name, token in tokens.items() if token is not None}
    return json.dumps({"_from_model_config": True, **content}, indent=2, sort_keys=True) + "\n"
