"""The special tokens that a tokenizer's configuration names, in the several forms it has had.

A token is its text, or an object with the text as `content` and what belongs to it: white space
on its left (`lstrip`) or right, whether it is found in normalised text, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from pymodel.errors import CheckpointError
from pymodel.text.settings import TOKEN_ROLES

_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def text_of(token: Any) -> str:
    """The text of a token in either form."""
    return str(token["content"] if isinstance(token, dict) else token)


def check_tokens(config: Mapping[str, Any], path: Path) -> None:
    """Raises CheckpointError, naming the file, for an entry that is no token."""
    groups: dict[str, Any] = {role: [config[role]] for role in TOKEN_ROLES if config.get(role) is not None}
    groups["additional_special_tokens"] = config.get("additional_special_tokens") or []
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict) or not all(map(str.isdigit, listed)):
        raise CheckpointError(f"{path}: added_tokens_decoder: expected tokens by id, got {listed!r}")
    groups["added_tokens_decoder"] = list(listed.values())
    for name, tokens in groups.items():
        for token in tokens if isinstance(tokens, (list, tuple)) else [None]:
            content = token.get("content") if isinstance(token, dict) else token
            if not isinstance(content, str):
                raise CheckpointError(
                    f"{path}: {name}: expected a token's text, or an object with its content, got {token!r}"
                )


def register_special_tokens(
    backends: Sequence[tokenizers.Tokenizer], config: dict[str, Any], older_added: Mapping[str, int]
) -> None:
    """Makes the tokens that the configuration names match as a whole, and leaves their texts in it.

    Args:
        backends: tokenizers of one vocabulary.
        older_added: ids by token, as older folders keep them in a file of their own.
    """
    listed = {int(key): value for key, value in (config.pop("added_tokens_decoder", None) or {}).items()}
    roles = {role: config[role] for role in TOKEN_ROLES if config.get(role) is not None}
    additional = config.get("additional_special_tokens") or []
    special: dict[str, Any] = {}
    for token in [*roles.values(), *additional]:  # new ones get their ids in this order
        special.setdefault(text_of(token), token)
    for token, token_id in older_added.items():
        listed.setdefault(token_id, {"content": token, "special": token in special})
    in_order = [listed[token_id] for token_id in sorted(listed)]
    for backend in backends:
        present = {token.content: token for token in backend.get_added_tokens_decoder().values()}
        for token in in_order:
            added = _added_token(token, token.get("special", False) or text_of(token) in special)
            old = present.get(text_of(token))
            # An entry with all its flags is newer than tokenizer.json.
            if old is None or (repr(old) != repr(added) and all(flag in token for flag in _FLAGS)):
                present[text_of(token)] = added
                backend.add_tokens([added])
        missing = [
            token for text, token in special.items() if text not in present or not present[text].special
        ]
        backend.add_special_tokens([_added_token(token, special=True) for token in missing])
    config.update({role: text_of(token) for role, token in roles.items()})
    if additional:
        config["additional_special_tokens"] = list(map(text_of, additional))


def listed_tokens(backend: tokenizers.Tokenizer) -> dict[str, dict[str, Any]]:
    """The added tokens of a tokenizer by id, in the form of `added_tokens_decoder`."""
    added = backend.get_added_tokens_decoder()
    return {
        str(token_id): {name: getattr(added[token_id], name) for name in ("content", "special", *_FLAGS)}
        for token_id in sorted(added)
    }


def _added_token(token: str | Mapping[str, Any], special: bool) -> AddedToken:
    entry = {"content": token} if isinstance(token, str) else token
    flags = {key: entry[key] for key in _FLAGS if key in entry}
    return AddedToken(entry["content"], **{"normalized": not special, **flags}, special=special)
