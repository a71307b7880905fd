"""A tokenizer's files in a model folder, read and written as Hugging Face's libraries do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from pymodel.errors import CheckpointError
from pymodel.files import atomic_file
from pymodel.text.families import (
    END_OF_TEXT,
    Family,
    backend_of_vocabulary,
    begin_and_end,
    family_of,
    follow_config,
    text_of,
)
from pymodel.text.settings import TOKEN_ROLES

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE_FOLDER = "additional_chat_templates"
_SENTENCEPIECE_FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm")


def read_tokenizer(folder: Path, changes: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """The tokenizer in a folder.

    Args:
        folder: holds `tokenizer.json`, or `vocab.txt`, or `vocab.json` and `merges.txt`.
        changes: keys of `tokenizer_config.json` to replace.

    Returns: the `tokenizers` library's tokenizer, and the configuration with all special tokens as text.

    Raises: CheckpointError when files are missing, truncated or of another format.
    """
    config = {**_read_config(folder), **changes}
    model = _read_json(folder / "config.json")
    family = family_of(config.get("tokenizer_class") or model.get("tokenizer_class"), model.get("model_type"))
    given = changes
    if (folder / TOKENIZER_FILE).is_file():
        backend = _read_backend(folder / TOKENIZER_FILE)
        follow_config(backend, config)
        _take_limits(backend, config)
    elif _has_vocabulary(folder):
        backend = backend_of_vocabulary(folder, family, config)
        given = config  # only here are add_bos_token and add_eos_token of the file more than history
    else:
        raise CheckpointError(f"{folder}: {_what_is_missing(folder)}")
    _enter_defaults(backend, config, family)
    _register_special_tokens(backend, config, _read_json(folder / "added_tokens.json"))
    if given.get("add_bos_token") is not None or given.get("add_eos_token") is not None:
        begin_and_end(backend, config, given)
    return backend, config


def write_tokenizer(folder: Path, backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and the chat templates.

    Raises: CheckpointError when a file cannot be written; an earlier one is then unchanged.
    """
    entries = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30, **config}
    templates = entries.pop("chat_template", None) or {}
    if isinstance(templates, str):
        templates = {"default": templates}
    # These are what tokenizer.json says already.
    for name in ("add_bos_token", "add_eos_token"):
        entries.pop(name, None)
    contents = {TOKENIZER_FILE: backend.to_str(pretty=True), CONFIG_FILE: _json(entries)}
    for name, template in templates.items():
        contents[CHAT_TEMPLATE_FILE if name == "default" else f"{CHAT_TEMPLATE_FOLDER}/{name}.jinja"] = (
            template
        )
    for name, content in contents.items():
        with atomic_file(folder / name, CheckpointError) as stream:
            stream.write(content.encode())


def _read_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json` with what stands in files of its own: special tokens, chat templates."""
    config = _read_json(folder / CONFIG_FILE)
    special_tokens = _read_json(folder / "special_tokens_map.json")
    if "added_tokens_decoder" not in config:  # with it the older file is out of date
        config |= special_tokens
    extra = config.pop("extra_special_tokens", None)
    if extra and not config.get("additional_special_tokens"):
        config["additional_special_tokens"] = list(extra.values() if isinstance(extra, dict) else extra)
    template = config.get("chat_template")
    if isinstance(template, list):
        config["chat_template"] = {entry["name"]: entry["template"] for entry in template}
    paths = {path.stem: path for path in sorted((folder / CHAT_TEMPLATE_FOLDER).glob("*.jinja"))}
    if (folder / CHAT_TEMPLATE_FILE).is_file():
        paths["default"] = folder / CHAT_TEMPLATE_FILE
    if paths:
        templates = {name: _read_text(path) for name, path in paths.items()}
        config["chat_template"] = templates["default"] if list(templates) == ["default"] else templates
    return config


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


def _register_special_tokens(
    backend: tokenizers.Tokenizer, config: dict[str, Any], older_added: Mapping[str, int]
) -> None:
    """Makes the tokens that the configuration names match as a whole, and leaves their texts in it."""
    listed = {int(key): value for key, value in (config.pop("added_tokens_decoder", None) or {}).items()}
    roles = {role: config[role] for role in TOKEN_ROLES if config.get(role) is not None}
    additional = config.get("additional_special_tokens") or []
    special = {text_of(token) for token in [*roles.values(), *additional]}
    for token, token_id in older_added.items():
        listed.setdefault(token_id, {"content": token, "special": token in special})
    present = {token.content: token.special for token in backend.get_added_tokens_decoder().values()}
    for _, token in sorted(listed.items(), key=lambda item: item[0]):
        if text_of(token) not in present:
            added = _added_token(token, token.get("special", False) or text_of(token) in special)
            backend.add_tokens([added])
            present[text_of(token)] = added.special
    for token in [*roles.values(), *additional]:
        if not present.get(text_of(token), False):
            backend.add_special_tokens([_added_token(token, special=True)])
            present[text_of(token)] = True
    config.update({role: text_of(token) for role, token in roles.items()})
    if additional:
        config["additional_special_tokens"] = list(map(text_of, additional))


def _added_token(token: str | Mapping[str, Any], special: bool) -> AddedToken:
    entry = {"content": token} if isinstance(token, str) else token
    flags = {key: entry[key] for key in ("lstrip", "rstrip", "single_word", "normalized") if key in entry}
    return AddedToken(entry["content"], **{"normalized": not special, **flags}, special=special)


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
        f"no {TOKENIZER_FILE} in it, nor vocab.txt, nor vocab.json with merges.txt; "
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


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
