"""Generated text as it comes: pieces for a program, or printed to a terminal."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TextIO

import numpy as np

from pymodel.errors import ConfigError
from pymodel.generate.decoding import Decoding
from pymodel.generate.defaults import options_of
from pymodel.generate.start import start
from pymodel.generate.stop_strings import StopStrings
from pymodel.models.cache import KeyValueCache
from pymodel.text import StreamDecoder

_WINDOW = 8  # tokens; no character has more, and no word needs more to be spaced
_UNFINISHED = "\ufffd"  # what decoders show for the first half of a character


class Streamer(Protocol):
    """Takes the tokens of one sequence while they are generated."""

    def start(self, prompt: np.ndarray, stops: Sequence[str]) -> None:
        """The prompt's token ids, and the strings at which text ends."""

    def put(self, token: int) -> None:
        """One new token."""

    def end(self) -> None:
        """Nothing more comes."""


class TextPieces:
    """Turns tokens into text that is whole characters and no part of a stop string.

    Args:
        tokenizer: a `pymodel.text.Tokenizer`, or anything with `decode(ids)`.
        stops: strings at which the text ends.
        before: the tokens that the text continues.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = (), before: Sequence[int] = ()) -> None:
        byte_level = getattr(tokenizer, "is_byte_level", False)
        self._characters = StreamDecoder(tokenizer) if byte_level else _WindowDecoder(tokenizer, before)
        self._stops = StopStrings(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop string has appeared."""
        return self._stops.found is not None

    def push(self, token: int) -> str:
        """Takes a token and returns the text that can be shown now."""
        return self._stops.push(self._characters.push(token))

    def finish(self) -> str:
        """Returns what still waited for more tokens."""
        return self._stops.push(self._characters.finish()) + self._stops.finish()


class _WindowDecoder:
    """Text of tokenizers whose tokens cannot be decoded one by one: whether a word has a space before it
    shows beside the tokens before, of which a few suffice.

    Args:
        tokenizer: has `decode`.
        before: the tokens that the text continues.
    """

    def __init__(self, tokenizer: Any, before: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = [int(token) for token in before[-_WINDOW:]]
        self._shown = len(self._ids)

    def push(self, token: int) -> str:
        self._ids.append(token)
        piece = self._new_text()
        return "" if piece.endswith(_UNFINISHED) else self._show(piece)

    def finish(self) -> str:
        return self._show(self._new_text())

    def _new_text(self) -> str:
        shown, text = (
            str(self._tokenizer.decode(ids, skip_special_tokens=True))
            for ids in (self._ids[: self._shown], self._ids)
        )
        # Only what came before may end inside a character, which is then still to be shown.
        return text[len(shown.rstrip(_UNFINISHED)) :]

    def _show(self, piece: str) -> str:
        self._ids = self._ids[-_WINDOW:]
        self._shown = len(self._ids)
        return piece


class TextStreamer:
    """Prints text to the terminal while `generate` makes it.

    Args:
        tokenizer: a `pymodel.text.Tokenizer`, or anything with `decode(ids)`.
        skip_prompt: print only what is new.
        stream: where to print; standard output when None.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, stream: TextIO | None = None) -> None:
        self._tokenizer = tokenizer
        self._skip_prompt = skip_prompt
        self._stream = stream
        self._pieces = TextPieces(tokenizer)

    def start(self, prompt: np.ndarray, stops: Sequence[str]) -> None:
        """Prints the prompt, unless it is to be skipped."""
        self._pieces = TextPieces(self._tokenizer, stops, prompt.tolist())
        if not self._skip_prompt:
            self._write(self._tokenizer.decode(prompt.tolist(), skip_special_tokens=True))

    def put(self, token: int) -> None:
        """Prints what a new token completes."""
        self._write(self._pieces.push(token))

    def end(self) -> None:
        """Prints what still waited, and a line break."""
        self._write(self._pieces.finish() + "\n")

    def _write(self, text: str) -> None:
        stream = sys.stdout if self._stream is None else self._stream
        stream.write(text)
        stream.flush()


@dataclasses.dataclass(frozen=True)
class GenerationResponse:
    """One step of `stream_generate`.

    text: what can be shown now; empty while a character or a stop string may be under way.
    token: the new token's id.
    prompt_tokens, prompt_tps: length of the prompt, and tokens of it read per second.
    generation_tokens, generation_tps: new tokens so far, and how many a second.
    finish_reason: None; with the last response "stop" or "length".
    """

    text: str
    token: int
    prompt_tokens: int
    prompt_tps: float
    generation_tokens: int
    generation_tps: float
    finish_reason: str | None


def stream_generate(
    model: Any,
    tokenizer: Any,
    prompt: str | Sequence[int] | Sequence[Mapping[str, Any]] | np.ndarray,
    *,
    past_key_values: KeyValueCache | None = None,
    **options: Any,
) -> Iterator[GenerationResponse]:
    """Yields a response for every token that the model adds to a prompt.

    The joined `text` of the responses is the continuation, without a stop string or end token.

    Args:
        model: a language model such as `GPT2LMHeadModel`.
        tokenizer: its `pymodel.text.Tokenizer`.
        prompt: text, token ids, or messages, {"role": ..., "content": ...} each, which the tokenizer's chat
            template brings into the form that the model knows; an encoder-decoder's source.
        past_key_values: as for `generate`; with it a conversation goes on without reading it again.
        options: those of `GenerationOptions`.

    Raises: ConfigError for an option; PymodelError for a prompt that is empty or too long.
    """
    options.setdefault("num_beams", 1)  # whatever the model's own default is
    chosen = options_of(model, options)
    for name in ("num_return_sequences", "num_beams"):
        if getattr(chosen, name) != 1:
            raise ConfigError(f"{name} must be 1 to stream, got {getattr(chosen, name)}")
    ids = prompt_tokens(tokenizer, prompt)
    began = start(model, [ids], None, chosen, past_key_values)
    decoding = Decoding(began.predictor, began.prompts, chosen)
    pieces = TextPieces(tokenizer, chosen.stops, began.prompts.tokens[0].tolist())
    return _responses(decoding, pieces, len(ids))


def prompt_tokens(tokenizer: Any, prompt: Any) -> Any:
    """The token ids of a prompt that may be text, messages of a conversation, or token ids already."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt)
    if len(prompt) and isinstance(prompt[0], Mapping):
        return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    return prompt


def _responses(decoding: Decoding, pieces: TextPieces, prompt_tokens: int) -> Iterator[GenerationResponse]:
    started = time.perf_counter()
    prompt_seconds = 0.0
    for count, (token,) in enumerate(decoding, start=1):
        now = time.perf_counter()
        if count == 1:
            prompt_seconds, started = now - started, now
        text = pieces.push(int(token))
        if pieces.stopped:
            decoding.finish(0, "stop")
        reason = decoding.finish_reasons[0]
        yield GenerationResponse(
            text=text if reason is None else text + pieces.finish(),
            token=int(token),
            prompt_tokens=prompt_tokens,
            prompt_tps=prompt_tokens / max(prompt_seconds, 1e-9),
            generation_tokens=count,
            # The first token is the work of the prompt.
            generation_tps=(count - 1) / max(now - started, 1e-9) if count > 1 else 0.0,
            finish_reason=reason,
        )
