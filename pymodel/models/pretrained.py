"""What all models share: model folders read and written whole, and generation."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pymodel import nn
from pymodel.hub import resolve_folder
from pymodel.models.checkpoint import WeightFiles
from pymodel.models.checks import check_changes, parameter_dtype
from pymodel.models.config import CONFIG_FILE, PretrainedConfig
from pymodel.models.generation_config import GENERATION_FILE, GenerationConfig
from pymodel.models.loading import load_weights, warn_of_new
from pymodel.models.shards import write_model_files
from pymodel.tensor import Tensor

Model = TypeVar("Model", bound="PretrainedModel")


class PretrainedModel(nn.Module):
    """Base of the models: a module with a configuration, read from and written to a folder.

    A subclass has a constructor (config, dtype, device) and sets some of these:

    config_class: of its configuration.
    base_model_prefix: the name under which models with a head hold the bare model.
    ignored_on_load: patterns of names in checkpoints that are no weights.
    renamed_on_load: pairs of a pattern and what takes its place, for names of old checkpoints.
    optional_weights: patterns of the parts that some models of the family have and others lack, one
        pattern per head. A checkpoint may hold them in vain; what it lacks as a whole begins anew.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    base_model_prefix: ClassVar[str] = ""
    ignored_on_load: ClassVar[tuple[str, ...]] = ()
    renamed_on_load: ClassVar[tuple[tuple[str, str], ...]] = ()
    optional_weights: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.generation_config = GenerationConfig.from_model_config(config)

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names that checkpoints leave out, and the parameters that they share."""
        return {}

    @property
    def dtype(self) -> str:
        """The dtype of the parameters."""
        return self._first_parameter.dtype

    @property
    def device(self) -> str:
        """Where the parameters live."""
        return self._first_parameter.device

    @property
    def _first_parameter(self) -> Tensor:
        return next(self.parameters())

    def __call__(self, *args: Any, return_dict: Any = None, **options: Any) -> Any:
        """Calls `forward`; with return_dict=False its output comes as a tuple."""
        output = self.forward(*args, **options)
        return output.to_tuple() if return_dict is False else output

    def init_weights(self, names: Collection[str] | None = None) -> None:
        """Draws the initial values of all parameters, or of those with these names."""
        for name, parameter in self.named_parameters():
            if names is None or name in names:
                self.init_parameter(name, parameter)

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Draws the initial values of one parameter, as BERT and most families after it do: normal
        with deviation `initializer_range`; biases 0 and the weights of norms, the only vectors
        beside them, 1."""
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)
        else:
            nn.init.normal_(parameter, std=self.config.initializer_range)

    @classmethod
    def from_pretrained(
        cls: type[Model],
        name: str | os.PathLike[str],
        dtype: Any = None,
        device: str | None = None,
        *,
        config: PretrainedConfig | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        ignore_mismatched_sizes: bool = False,
        **changes: Any,
    ) -> Model:
        """Reads a model: `config.json` and `model.safetensors`, whole or in shards.

        Checkpoints of the bare model and of models with other heads are accepted too; a head that
        the checkpoint lacks begins with initial values, and a warning says so. The model comes back
        in evaluation mode.

        Args:
            name: a folder on this machine, or a repository of the Hugging Face hub such as
                "org/name", which the extra `hub` fetches.
            dtype: of the parameters: float32, float16 or bfloat16, as a name or as another library's
                dtype; that of the file when None or "auto". torch_dtype is another name of it.
            device: where they live.
            config: in place of the folder's `config.json`.
            revision: branch, tag or commit of a repository.
            local_files_only: take a repository from the cache or not at all.
            ignore_mismatched_sizes: begin tensors of another shape anew, with a warning, such as a head
                for another number of classes.
            changes: keys of the configuration to replace, such as resid_pdrop=0.0 or num_labels=3.

        Raises: CheckpointError when files are missing, damaged or hold other tensors than the
        configuration asks for, listing them by name, and for a repository that cannot be had;
        ConfigError for the configuration.
        """
        other_name = changes.pop("torch_dtype", None)
        wanted_dtype = parameter_dtype(other_name if dtype is None else dtype)
        check_changes(changes)
        folder = resolve_folder(name, revision=revision, local_files_only=local_files_only)
        if config is None:
            config = cls.config_class.from_pretrained(folder, **changes)
        elif changes:
            config = cls.config_class.from_dict({**config.to_dict(), **changes})
        files = WeightFiles(folder)
        config = cls.fitted_config(config, files)
        with nn.init.no_init():
            model = cls(config, wanted_dtype or files.dtype, device)  # type: ignore[call-arg]
        new = load_weights(model, files, ignore_mismatched_sizes)
        model.init_weights(new)
        model.generation_config = GenerationConfig.from_folder(folder, config)
        for key in vars(model.generation_config).keys() & changes.keys():
            delattr(model.generation_config, key)  # the call knows better than the folder
        warn_of_new(folder, new)
        model.eval()
        return model

    @classmethod
    def fitted_config(cls, config: Any, files: WeightFiles) -> Any:
        """The configuration, changed where a family's checkpoints say more about their shape than it does."""
        return config

    def stored_weights(self) -> dict[str, Tensor]:
        """What a checkpoint of the model holds, by name."""
        tied = self.tied_weights
        return {name: weight for name, weight in self.state_dict().items() if name not in tied}

    def save_pretrained(self, folder: str | os.PathLike[str], max_shard_size: int | str = "5GB") -> None:
        """Writes `config.json`, `model.safetensors` and `generation_config.json`, which
        transformers reads as well.

        Args:
            folder: is made when missing; other files in it stay.
            max_shard_size: bytes, or a text such as "500MB". A larger model becomes several files,
                with an index that says which tensor is where.

        Raises: ConfigError for max_shard_size; CheckpointError when they cannot be written; earlier
        files are then unchanged.
        """
        config = self.config.to_json(
            architectures=[type(self).__name__], dtype=self.dtype, torch_dtype=self.dtype
        )
        texts = {CONFIG_FILE: config, GENERATION_FILE: self.generation_config.to_json(self.config)}
        write_model_files(Path(folder), self.stored_weights(), texts, max_shard_size)


class GenerationMixin:
    """Adds `generate` to a language model."""

    def generate(
        self,
        input_ids: Any,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Any:
        """Continues a batch of prompts; see `pymodel.generate.generate`."""
        from pymodel.generate import generate

        return generate(
            self, input_ids, max_new_tokens, do_sample, temperature, top_k, top_p, seed, **options
        )
