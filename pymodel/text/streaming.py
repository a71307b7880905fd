"""Token ids to text as they come, for printing while a model generates."""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import TYPE_CHECKING

from tokenizers import pre_tokenizers

from pymodel.errors import ConfigError

if TYPE_CHECKING:
    from pymodel.text.tokenizer import Tokenizer


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for their own byte; the bytes left over, in rising order, are shown as
    the characters from U+0100 on. Source: Radford et al. 2019, "Language Models are Unsupervised Multitask
    Learners", section 2.2.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = {character: ord(character) for character in alphabet if ord(character) < 256}
    left_over = sorted(set(range(256)) - set(own.values()))
    return own | dict(zip(alphabet[len(own) :], left_over, strict=True))


class StreamDecoder:
    """Turns token ids into text piece by piece without ever giving out half a character.

    A byte-level token may end inside a UTF-8 sequence. Its last bytes (three at most) wait here for the next
    token; bytes that can never become a character come out as U+FFFD at once. The pieces of a stream,
    joined, equal `tokenizer.decode` of all its ids.

    Args:
        tokenizer: a byte-level tokenizer.
        skip_special_tokens: leave out `<|endoftext|>` and the like.

    Raises:
        ConfigError: the tokenizer is not byte-level.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        if not tokenizer.is_byte_level:
            raise ConfigError(
                "StreamDecoder: expected a byte-level tokenizer, this one has another decoder; "
                "call Tokenizer.decode on the whole sequence instead"
            )
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Take one id and return the text that it completes, often all of its own, sometimes none.

        An id outside the vocabulary (rows that pad a model's embedding) adds nothing, as in `decode`.
        """
        token = self._tokenizer.token(int(token_id))
        if token is None or int(token_id) in self._skipped:
            return ""
        return self._utf8.decode(_token_bytes(token))

    def finish(self) -> str:
        """Return what still waits (U+FFFD when the sequence stopped inside a character) and start anew."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


def _token_bytes(token: str) -> bytes:
    table = byte_of_character()
    try:
        return bytes(table[character] for character in token)
    except KeyError:
        # An added token holds plain text, such as a space, that is not spelled in the byte alphabet.
        return token.encode()
