"""What sentence-transformers writes beside a model: its modules, and how they are set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pymodel.errors import ConfigError
from pymodel.models.config import read_json, read_json_list

MODULES_FILE = "modules.json"
SEQUENCE_FILE = "sentence_bert_config.json"
FOLDER_FILES = (MODULES_FILE, SEQUENCE_FILE, "*_Pooling/config.json")

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclasses.dataclass
class SentenceSettings:
    """How sentences become vectors; the defaults are for folders that do not say.

    pooling: "mean" or "cls".
    normalize: whether vectors get length 1.
    max_length: where sentences are cut, in tokens.
    """

    pooling: str = "mean"
    normalize: bool = True
    max_length: int | None = None


def read_settings(folder: Path) -> SentenceSettings:
    """Reads `modules.json`, the pooling's `config.json` and `sentence_bert_config.json`, where present.

    Raises: CheckpointError for files that are no JSON; ConfigError for modules and poolings that are not
    built in.
    """
    settings = SentenceSettings()
    if (folder / SEQUENCE_FILE).is_file():
        settings.max_length = read_json(folder / SEQUENCE_FILE).get("max_seq_length")
    if not (folder / MODULES_FILE).is_file():
        return settings
    modules = read_json_list(folder / MODULES_FILE)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    for module, kind in zip(modules, kinds, strict=True):
        if kind not in _KNOWN_MODULES or (kind == "Transformer" and module.get("path")):
            raise ConfigError(
                f"{folder / MODULES_FILE}: module {module.get('path')!r} of type {kind} is not built in; "
                f"expected {', '.join(_KNOWN_MODULES)}, the first in the folder itself"
            )
        if kind == "Pooling":
            path = folder / str(module.get("path", "")) / "config.json"
            settings.pooling = _pooling(read_json(path), path)
    settings.normalize = "Normalize" in kinds
    return settings


def _pooling(config: dict[str, Any], path: Path) -> str:
    """The only pooling that the file turns on."""
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    if "pooling_mode" in config:  # as sentence-transformers writes it since version 5
        chosen = [str(config["pooling_mode"])]
    known = {**_POOLINGS, **{name: name for name in _POOLINGS.values()}}
    if len(chosen) != 1 or chosen[0] not in known:
        raise ConfigError(
            f"{path}: pooling {' and '.join(chosen) or 'none'} is not built in; expected one of "
            f"{', '.join(_POOLINGS)}"
        )
    return known[chosen[0]]
