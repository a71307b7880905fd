"""The options of generation, checked together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence, Set
from typing import Any, Literal

import numpy as np

from pymodel.errors import ConfigError

DEFAULT_NEW_TOKENS = 64

# The options that are counts or one token, and their least value.
_LOWEST = {
    "max_new_tokens": 0,
    "min_new_tokens": 0,
    "max_length": 1,
    "min_length": 0,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "forced_bos_token_id": 0,
    "seed": 0,
    "top_k": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
}
_OPTIONAL = (  # of these, those that may be None
    "max_new_tokens",
    "max_length",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "seed",
)
_NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "length_penalty")
_FLAGS = ("do_sample", "renormalize_logits", "use_cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How tokens are chosen and when to stop; names and defaults as in transformers.

    Args:
        max_new_tokens: the most to generate, 64 where max_length is not given either; the model's
            context may end earlier.
        min_new_tokens: before that many, no end token is chosen.
        max_length, min_length: the same with the prompt, or an encoder-decoder's start token, counted in;
            max_length has no effect beside max_new_tokens.
        do_sample: draw tokens by their probability, instead of taking the most likely one.
        temperature: divides the logits: below 1 sharper, above 1 flatter.
        top_k: draw from this many most likely tokens; 0 for all.
        top_p: draw from the most likely tokens that together have this probability.
        min_p: draw from tokens at least this many times as likely as the most likely one.
        repetition_penalty: above 1 makes tokens that are already there less likely.
        no_repeat_ngram_size: no run of this many tokens comes twice; 0 for no such rule.
        bad_words_ids: runs of tokens that may not come; an end token alone is none of them.
        forced_bos_token_id: the token that follows a sequence of one token.
        forced_eos_token_id: the token, or several to choose from, at the last place.
        renormalize_logits: make what the other rules left a distribution again; matters to scores of beams.
        num_beams: continuations that are followed at once; 1 for no beam search.
        length_penalty: a beam's score is its log probability divided by its new tokens to this power: above
            0 favours long ones, below 0 short ones.
        early_stopping: when beams stop: True as soon as `num_beams` have ended; False when no open one is
            better than those at its present length; "never" when none could get better at any length.
        stop_strings: text at which to stop.
        eos_token_id: the token, or several, at which to stop.
        pad_token_id: what fills rows behind their end; None for the first end token.
        decoder_start_token_id: the token from which an encoder-decoder starts.
        seed: of the draws; None takes the next of pymodel's generator (`pymodel.manual_seed`).
        use_cache: keep keys and values of past tokens instead of computing them again.
        num_return_sequences: continuations of each prompt; of beams, the best ones.

    Raises: ConfigError for a value that makes no sense, naming it and what is expected.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    max_length: int | None = None
    min_length: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    renormalize_logits: bool = False
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    stop_strings: str | Sequence[str] | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    decoder_start_token_id: int | None = None
    seed: int | None = None
    use_cache: bool = True
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        self._check_types()
        self._check_number("repetition_penalty", 0.0 < self.repetition_penalty < math.inf, "above 0")
        self._check_number("top_p", 0.0 < self.top_p <= 1.0, "above 0 and at most 1")
        self._check_number("min_p", 0.0 <= self.min_p <= 1.0, "between 0 and 1")
        self._check_number("length_penalty", math.isfinite(self.length_penalty), "a finite number")
        if self.do_sample and not 0.0 < self.temperature < math.inf:
            raise ConfigError(
                f"temperature must be above 0, got {self.temperature!r}; "
                "for the most likely token every time pass do_sample=False"
            )
        self._check_tokens()
        self._check_beams()

    def _check_types(self) -> None:
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            if not _is_integer(value, lowest) and not (value is None and name in _OPTIONAL):
                none = " or None" if name in _OPTIONAL else ""
                raise ConfigError(f"{name} must be an integer of at least {lowest}{none}, got {value!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
                raise ConfigError(f"{name} must be a number, got {value!r}")
        for name in _FLAGS:
            value = getattr(self, name)
            if not isinstance(value, (bool, np.bool_)):
                raise ConfigError(f"{name} must be True or False, got {value!r}")
        stopping: Any = self.early_stopping
        if not isinstance(stopping, bool) and not (isinstance(stopping, str) and stopping == "never"):
            raise ConfigError(f"early_stopping must be True, False or 'never', got {stopping!r}")

    def _check_beams(self) -> None:
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            raise ConfigError(
                f"num_return_sequences must be at most num_beams, got {self.num_return_sequences} "
                f"of {self.num_beams} beams"
            )
        if self.num_return_sequences > 1 and self.num_beams == 1 and not self.do_sample:
            raise ConfigError(
                f"num_return_sequences must be 1 without sampling or beams, got {self.num_return_sequences}: "
                "all would be the same; pass do_sample=True or num_beams"
            )
        if self.num_beams > 1 and self.stops:
            raise ConfigError(
                "stop_strings cannot be used with num_beams above 1: a beam's text may still change; "
                "pass num_beams=1, or cut the text afterwards"
            )

    def _check_tokens(self) -> None:
        if not all(isinstance(stop, str) and stop for stop in _as_tuple(self.stop_strings)):
            raise ConfigError(f"stop_strings must be strings that are not empty, got {self.stop_strings!r}")
        for name in ("eos_token_id", "forced_eos_token_id"):
            if not all(_is_integer(token, 0) for token in _as_tuple(getattr(self, name))):
                raise ConfigError(f"{name} must be token ids of at least 0, got {getattr(self, name)!r}")
        for word in _as_tuple(self.bad_words_ids):
            tokens = _as_tuple(word)
            if np.isscalar(word) or not tokens or not all(_is_integer(token, 0) for token in tokens):
                raise ConfigError(
                    f"bad_words_ids must be lists of token ids, none of them empty, got {word!r} among them"
                )

    def _check_number(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:  # NaN fits nowhere
            raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple."""
        return _as_tuple(self.stop_strings)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The end tokens as a tuple."""
        return _as_tuple(self.eos_token_id)

    @property
    def forced_end_ids(self) -> tuple[int, ...]:
        """The tokens of the last place as a tuple."""
        return _as_tuple(self.forced_eos_token_id)

    @property
    def bad_words(self) -> tuple[tuple[int, ...], ...]:
        """The forbidden runs of tokens; end tokens alone are left out, since without them nothing ends."""
        words = (_as_tuple(word) for word in _as_tuple(self.bad_words_ids))
        return tuple(word for word in words if len(word) > 1 or word[0] not in self.end_ids)


def _as_tuple(given: Any) -> tuple[Any, ...]:
    """What may be given as one value, several or None."""
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, (Sequence, Set)) and not isinstance(given, (str, bytes)):
        return tuple(given)
    return () if given is None else (given,)


def _is_integer(value: object, lowest: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= lowest
