"""Tokens, their ids and the text they spell: a model's own, added ones, and special ones by their roles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias, overload

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models

from pymodel.errors import ConfigError, DataError
from pymodel.text.settings import TOKEN_ROLES, NamedToken, NamedTokenId, Setting

Id: TypeAlias = "int | np.integer[Any]"

_ADDITIONAL = "additional_special_tokens"


class Vocabulary:
    """The tokens of a tokenizer.

    Args:
        backend: a tokenizer of the `tokenizers` library.
        config: what `tokenizer_config.json` holds: `eos_token`, `bos_token`, `pad_token` and whatever else
            is to be kept when it is saved again.
    """

    bos_token = NamedToken()
    eos_token = NamedToken()
    unk_token = NamedToken()
    sep_token = NamedToken()
    pad_token = NamedToken()
    cls_token = NamedToken()
    mask_token = NamedToken()

    bos_token_id = NamedTokenId()
    eos_token_id = NamedTokenId()
    unk_token_id = NamedTokenId()
    sep_token_id = NamedTokenId()
    pad_token_id = NamedTokenId()
    cls_token_id = NamedTokenId()
    mask_token_id = NamedTokenId()

    clean_up_tokenization_spaces: Setting[bool] = Setting(False)

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any] | None = None) -> None:
        self._backend = backend
        self._config = dict(config or {})

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer of the `tokenizers` library that does the work."""
        return self._backend

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the highest id plus one, special and added tokens included.

        The ids may have holes, so this may be more than the number of tokens.
        """
        return self._size

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        # Without this an empty vocabulary would make `if tokenizer:` false.
        return True

    @cached_property
    def _size(self) -> int:
        return max(self.get_vocab().values(), default=-1) + 1

    def get_vocab(self) -> dict[str, int]:
        """All tokens and their ids, added ones included."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens that are matched as a whole before text is split, and their ids."""
        added = self._backend.get_added_tokens_decoder()
        return {added[token_id].content: token_id for token_id in sorted(added)}

    def token(self, token_id: int) -> str | None:
        """How the vocabulary spells an id, None when it has no such id."""
        # The library takes no other numbers at all.
        return self._backend.id_to_token(token_id) if 0 <= token_id < 1 << 32 else None

    def token_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it, None when it is not in there."""
        return self._backend.token_to_id(token)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a token, or of several; that of the unknown token for one that is not in there."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        known = self.token_id(tokens)
        return self.unk_token_id if known is None else known

    @overload
    def convert_ids_to_tokens(self, ids: Id, skip_special_tokens: bool = False) -> str | None: ...
    @overload
    def convert_ids_to_tokens(
        self, ids: Iterable[int], skip_special_tokens: bool = False
    ) -> list[str | None]: ...
    def convert_ids_to_tokens(self, ids: Id | Iterable[int], skip_special_tokens: bool = False) -> Any:
        """How the vocabulary spells an id, or several (a list or an array); None for an unknown one."""
        if isinstance(ids, (int, np.integer)):
            return self.token(int(ids))
        skipped = self.special_token_ids if skip_special_tokens else frozenset()
        return [self.token(int(token_id)) for token_id in ids if int(token_id) not in skipped]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text that tokens spell."""
        decoder = self._backend.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def decode(
        self,
        ids: Id | Iterable[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """The text of a sequence of ids (a list or a one-dimensional array), or of one id.

        Ids beyond the vocabulary (rows that pad a model's embedding) add nothing. Bytes that are no UTF-8,
        such as the first half of a character, come out as U+FFFD.

        Args:
            skip_special_tokens: leave out `[CLS]`, `<|endoftext|>` and the like.
            clean_up_tokenization_spaces: take out the spaces before punctuation and English suffixes that
                word tokenizers leave; as configured when None. Byte-level and other BPE tokenizers, whose
                spaces are the text's own, keep them either way.

        Raises:
            DataError: an id is negative, as the -100 of masked labels is.
        """
        numbers = [int(token_id) for token_id in ([ids] if isinstance(ids, (int, np.integer)) else ids)]
        if numbers and min(numbers) < 0:
            raise DataError(
                f"decode: expected token ids of 0 or more, got {min(numbers)}; drop masked labels first"
            )
        if skip_special_tokens:
            # Not left to the library, which keeps those that are found in normalised text.
            numbers = [token_id for token_id in numbers if token_id not in self.special_token_ids]
        text: str = self._backend.decode(numbers, skip_special_tokens=False)
        clean = clean_up_tokenization_spaces
        if (self.clean_up_tokenization_spaces if clean is None else clean) and not self._keeps_spaces:
            return _without_spaces(text)
        return text

    def batch_decode(
        self,
        sequences: Iterable[Iterable[int]],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """The texts of several sequences of ids, such as what `generate` returns; see `decode`."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Adds tokens that are matched as a whole; those the vocabulary lacks get the next ids.

        Args:
            new_tokens: texts, or AddedTokens of the `tokenizers` library where white space beside them or
                whole words matter.
            special_tokens: `skip_special_tokens` leaves them out when decoding.

        Returns: how many are new. A model's embedding must have `len(tokenizer)` rows afterwards.
        """
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        if not all(isinstance(token, (str, AddedToken)) for token in tokens):
            raise DataError(f"new_tokens: expected texts or AddedTokens, got {new_tokens!r}")
        add = self._backend.add_special_tokens if special_tokens else self._backend.add_tokens
        count = int(add(tokens))
        for name in ("_size", "special_token_ids", "fingerprint"):
            self.__dict__.pop(name, None)
        return count

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, str | AddedToken | Sequence[str | AddedToken]],
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Gives special tokens their roles, and adds those that the vocabulary lacks.

        Args:
            special_tokens_dict: tokens by role, such as {"pad_token": "[PAD]"}; under
                `additional_special_tokens` a list of tokens without a role.
            replace_additional_special_tokens: that list replaces the earlier one instead of following it.

        Returns: as `add_tokens`.

        Raises: ConfigError for a role that does not exist.
        """
        count = 0
        for role, value in special_tokens_dict.items():
            if role in TOKEN_ROLES and isinstance(value, (str, AddedToken)):
                count += self.add_tokens(value, special_tokens=True)
                setattr(self, role, value)
            elif role in (_ADDITIONAL, "extra_special_tokens") and not isinstance(value, (str, AddedToken)):
                count += self.add_tokens(value, special_tokens=True)
                kept = [] if replace_additional_special_tokens else self.additional_special_tokens
                new = [str(getattr(token, "content", token)) for token in value]
                self._config[_ADDITIONAL] = list(dict.fromkeys([*kept, *new]))
            else:
                raise ConfigError(
                    f"special_tokens_dict: expected one token for each of {', '.join(TOKEN_ROLES)} and a "
                    f"list for {_ADDITIONAL}; got {role}={value!r}"
                )
        return count

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens by role."""
        return {role: self._config[role] for role in TOKEN_ROLES if self._config.get(role) is not None}

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens without a role."""
        return list(self._config.get(_ADDITIONAL) or [])

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token that the configuration names, once."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int | None]:
        """The ids of `all_special_tokens`."""
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @cached_property
    def special_token_ids(self) -> frozenset[int]:
        """The ids that `skip_special_tokens` leaves out."""
        added = self._backend.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @property
    def is_byte_level(self) -> bool:
        """Whether the tokens are spelled in GPT-2's byte alphabet."""
        return isinstance(self._backend.decoder, decoders.ByteLevel)

    @property
    def _keeps_spaces(self) -> bool:
        return isinstance(self._backend.model, models.BPE)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides the ids; token files carry it."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()


def _without_spaces(text: str) -> str:
    """Undoes what cutting English into words does to its spaces."""
    for mark in (".", "?", "!", ","):
        text = text.replace(f" {mark}", mark)
    text = text.replace(" ' ", "'")
    for ending in ("n't", "'m", "'s", "'ve", "'re"):
        text = text.replace(f" {ending}", ending)
    return text
