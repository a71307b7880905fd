"""The model class that belongs to a folder."""

from __future__ import annotations

import os
from typing import Any

from pymodel.errors import ConfigError
from pymodel.models.config import CONFIG_FILE, read_config
from pymodel.models.gpt2 import GPT2LMHeadModel
from pymodel.models.pretrained import PretrainedModel

LANGUAGE_MODELS: dict[str, type[PretrainedModel]] = {"gpt2": GPT2LMHeadModel}


def from_pretrained(
    folder: str | os.PathLike[str], dtype: str | None = None, device: str | None = None, **changes: Any
) -> PretrainedModel:
    """Reads the language model in a folder, of the family that its `config.json` names.

    Args: as `PretrainedModel.from_pretrained`.

    Raises: ConfigError for a family that is not built in; and as there.
    """
    family = read_config(folder).get("model_type")
    if family not in LANGUAGE_MODELS:
        known = ", ".join(LANGUAGE_MODELS)
        raise ConfigError(
            f"{os.fspath(folder)}/{CONFIG_FILE}: model_type {family!r} is not built in; expected {known}"
        )
    return LANGUAGE_MODELS[family].from_pretrained(folder, dtype, device, **changes)
