"""A tokenizer's files in a model folder, read and written as Hugging Face's libraries do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from pymodel.errors import CheckpointError, ConfigError
from pymodel.files import atomic_file
from pymodel.text.families import (
    END_OF_TEXT,
    Family,
    backend_of_vocabulary,
    begin_and_end,
    family_of,
    follow_config,
)
from pymodel.text.marian import MARIAN_FILES, marian_backends
from pymodel.text.settings import TOKEN_ROLES
from pymodel.text.special_tokens import check_tokens, listed_tokens, register_special_tokens, text_of

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE_FOLDER = "additional_chat_templates"
# The entries of its configuration that a user may replace when reading a tokenizer.
_CHANGEABLE = (
    *TOKEN_ROLES,
    *("add_bos_token", "add_eos_token", "add_prefix_space", "additional_special_tokens", "chat_template"),
    *("clean_up_tokenization_spaces", "do_lower_case", "model_input_names", "model_max_length"),
    *("padding_side", "strip_accents", "tokenize_chinese_chars", "truncation_side"),
)
_SENTENCEPIECE_FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raises ConfigError for an entry of the configuration that does not exist or cannot be replaced."""
    unknown = sorted(set(changes) - set(_CHANGEABLE))
    if unknown:
        raise ConfigError(
            f"from_pretrained: unknown {', '.join(unknown)}; known: {', '.join(sorted(_CHANGEABLE))}"
        )


@dataclasses.dataclass(frozen=True)
class TokenizerParts:
    """What a folder holds of a tokenizer.

    Attributes:
        backend: the `tokenizers` library's tokenizer.
        config: `tokenizer_config.json` and what belongs to it, special tokens as text.
        target: another backend for the texts that a translation is to give, where they are cut otherwise.
        files: files that stand for the backends when they are saved, their content by name; none where
            the library's own `tokenizer.json` does.
    """

    backend: tokenizers.Tokenizer
    config: dict[str, Any]
    target: tokenizers.Tokenizer | None = None
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)


def read_tokenizer(folder: Path, changes: Mapping[str, Any]) -> TokenizerParts:
    """The tokenizer in a folder.

    Args:
        folder: holds `tokenizer.json`, or `vocab.txt`, or `vocab.json` and `merges.txt`, or Marian's
            `source.spm`, `target.spm` and `vocab.json`.
        changes: keys of `tokenizer_config.json` to replace.

    Raises: CheckpointError when files are missing, truncated or of another format.
    """
    config = {**_read_config(folder), **changes}
    check_tokens(config, folder / CONFIG_FILE)
    model = _read_json(folder / "config.json")
    family = family_of(config.get("tokenizer_class") or model.get("tokenizer_class"), model.get("model_type"))
    given, target, files = changes, None, {}
    if (folder / TOKENIZER_FILE).is_file():
        backend = _read_backend(folder / TOKENIZER_FILE)
        follow_config(backend, config)
        _take_limits(backend, config)
    elif _has_vocabulary(folder):
        backend = backend_of_vocabulary(folder, family, config)
        given = config  # only here are add_bos_token and add_eos_token of the file more than history
    elif all((folder / name).is_file() for name in MARIAN_FILES):
        files = {name: _read_bytes(folder / name) for name in MARIAN_FILES}
        backend, target = marian_backends(files, folder, config)
    else:
        raise CheckpointError(f"{folder}: {_what_is_missing(folder)}")
    _enter_defaults(backend, config, family)
    backends = [backend] if target is None else [backend, target]
    register_special_tokens(backends, config, _added_tokens(folder / "added_tokens.json"))
    if given.get("add_bos_token") is not None or given.get("add_eos_token") is not None:
        begin_and_end(backend, config, given)
    return TokenizerParts(backend, config, target, files)


def write_tokenizer(folder: Path, parts: TokenizerParts) -> None:
    """Writes `tokenizer.json`, or the files that stand for it, `tokenizer_config.json` and the chat
    templates.

    Raises: CheckpointError when a file cannot be written; an earlier one is then unchanged.
    """
    entries = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30, **parts.config}
    templates = entries.pop("chat_template", None) or {}
    if isinstance(templates, str):
        templates = {"default": templates}
    for name in templates:
        if Path(name).name != name:  # names come with checkpoints, and may point anywhere
            raise CheckpointError(f"{folder}: a chat template is called {name!r}, which is no file's name")
    if parts.files:
        contents = dict(parts.files)
        entries["added_tokens_decoder"] = listed_tokens(parts.backend)
    else:
        contents = {TOKENIZER_FILE: parts.backend.to_str(pretty=True).encode()}
    contents[CONFIG_FILE] = _json(entries)
    if (folder / SPECIAL_TOKENS_FILE).is_file():  # readers believe an older one, where there is one
        named = (*TOKEN_ROLES, "additional_special_tokens")
        contents[SPECIAL_TOKENS_FILE] = _json({name: entries[name] for name in named if entries.get(name)})
    for name, template in templates.items():
        path = CHAT_TEMPLATE_FILE if name == "default" else f"{CHAT_TEMPLATE_FOLDER}/{name}.jinja"
        contents[path] = template.encode()
    for path, content in contents.items():
        with atomic_file(folder / path, CheckpointError) as stream:
            stream.write(content)


def _read_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json` with what stands in files of its own: special tokens, chat templates."""
    config = _read_json(folder / CONFIG_FILE)
    special_tokens = _read_json(folder / SPECIAL_TOKENS_FILE)
    if "added_tokens_decoder" not in config:  # with it the older file is out of date
        config |= special_tokens
    extra = config.pop("extra_special_tokens", None)
    if extra and not config.get("additional_special_tokens"):
        config["additional_special_tokens"] = list(extra.values() if isinstance(extra, dict) else extra)
    config["chat_template"] = _chat_templates(folder, config.get("chat_template"))
    return config


def _chat_templates(folder: Path, entry: Any) -> str | dict[str, str] | None:
    """A folder's chat template, or several by name: those in files of their own, else what
    `tokenizer_config.json` holds, where several are a list of names and templates."""
    paths = {path.stem: path for path in sorted((folder / CHAT_TEMPLATE_FOLDER).glob("*.jinja"))}
    if (folder / CHAT_TEMPLATE_FILE).is_file():
        paths["default"] = folder / CHAT_TEMPLATE_FILE
    templates = {name: _read_text(path) for name, path in paths.items()}
    if templates:
        return templates["default"] if list(templates) == ["default"] else templates
    if entry is None or isinstance(entry, str):
        return entry
    try:
        templates = {str(item["name"]): str(item["template"]) for item in entry}
    except (TypeError, KeyError):
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: chat_template: expected Jinja source, or a list of name and template "
            f"each, got {entry!r}"
        ) from None
    return templates


def _added_tokens(path: Path) -> dict[str, int]:
    """The tokens and ids that older folders keep in a file of their own."""
    added = _read_json(path)
    if not all(isinstance(token_id, int) for token_id in added.values()):
        raise CheckpointError(f"{path}: expected an id for every token; copy it again")
    return added


def _enter_defaults(backend: tokenizers.Tokenizer, config: dict[str, Any], family: Family) -> None:
    """Enters what no file says: GPT-2's end token, and the family's tokens as far as there are any."""
    if config.get("eos_token") is None and backend.token_to_id(END_OF_TEXT) is not None:
        for key, value in default_config(END_OF_TEXT).items():
            config[key] = value if config.get(key) is None else config[key]
    for role, token in family.special_tokens.items():
        if role not in config and backend.token_to_id(text_of(token)) is not None:
            config[role] = token
    config.setdefault("model_input_names", list(family.model_input_names))
    config.setdefault("padding_side", family.padding_side)
    if config.get("model_max_length") is None and config.get("max_len") is not None:
        config["model_max_length"] = config["max_len"]  # its name in old files


def default_config(end: str) -> dict[str, Any]:
    """The configuration of a byte-level tokenizer whose texts end with that token."""
    return {
        "add_prefix_space": False,
        "bos_token": end,
        "clean_up_tokenization_spaces": False,  # or transformers' decode would change " ," to ","
        "eos_token": end,
        "pad_token": end,
    }


def _take_limits(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """Keeps what a file's own padding and truncation say of sides and tokens; each call sets its own."""
    padding, truncation = backend.padding, backend.truncation
    if padding is not None:
        config.setdefault("pad_token", padding["pad_token"])
        config.setdefault("padding_side", padding["direction"])
    if truncation is not None:
        config.setdefault("truncation_side", truncation["direction"])


def _has_vocabulary(folder: Path) -> bool:
    names = ("vocab.json", "merges.txt")
    return (folder / "vocab.txt").is_file() or all((folder / name).is_file() for name in names)


def _what_is_missing(folder: Path) -> str:
    for name in _SENTENCEPIECE_FILES:
        if (folder / name).is_file():
            return (
                f"{name} is SentencePiece's own file, which is not read here; let transformers write "
                f"{TOKENIZER_FILE}: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
    return (
        f"no {TOKENIZER_FILE} in it, nor vocab.txt, nor vocab.json with merges.txt or with source.spm and "
        "target.spm; "
        "name a model folder that holds a tokenizer"
    )


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises bare Exception for whatever is wrong in the file
        raise CheckpointError(
            f"{path}: not a whole tokenizer file ({problem}); copy it again or train the tokenizer anew"
        ) from problem


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path}: cannot be read as text ({problem}); copy it again") from problem


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem}); copy it again") from problem


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path}: cannot be read as JSON ({problem}); copy it again") from problem
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}; copy it again")
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
