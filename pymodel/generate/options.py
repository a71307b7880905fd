"""The options of generation, checked together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from pymodel.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How tokens are chosen and when to stop; names and defaults as in transformers.

    Args:
        max_new_tokens: the most to generate; the model's context may end earlier.
        min_new_tokens: before that many, no end token is chosen.
        do_sample: draw tokens by their probability, instead of taking the most likely one.
        temperature: divides the logits: below 1 sharper, above 1 flatter.
        top_k: draw from this many most likely tokens; 0 for all.
        top_p: draw from the most likely tokens that together have this probability.
        min_p: draw from tokens at least this many times as likely as the most likely one.
        repetition_penalty: above 1 makes tokens that are already there less likely.
        stop_strings: text at which to stop.
        eos_token_id: the token, or several, at which to stop; None for the model's own.
        seed: of the draws; None takes the next of pymodel's generator (`pymodel.manual_seed`).
        use_cache: keep keys and values of past tokens instead of computing them again.
        num_return_sequences: continuations of each prompt.

    Raises: ConfigError for a value that makes no sense, naming it and what is expected.
    """

    max_new_tokens: int = 64
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_strings: str | Sequence[str] | None = None
    eos_token_id: int | Sequence[int] | None = None
    seed: int | None = None
    use_cache: bool = True
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        for name, lowest in (
            ("max_new_tokens", 0),
            ("min_new_tokens", 0),
            ("top_k", 0),
            ("num_return_sequences", 1),
        ):
            value = getattr(self, name)
            if not _is_integer(value, lowest):
                raise ConfigError(f"{name} must be an integer of at least {lowest}, got {value!r}")
        self._check_number("repetition_penalty", 0.0 < self.repetition_penalty < math.inf, "above 0")
        self._check_number("top_p", 0.0 < self.top_p <= 1.0, "above 0 and at most 1")
        self._check_number("min_p", 0.0 <= self.min_p <= 1.0, "between 0 and 1")
        if self.do_sample and not 0.0 < self.temperature < math.inf:
            raise ConfigError(
                f"temperature must be above 0, got {self.temperature!r}; "
                "for the most likely token every time pass do_sample=False"
            )
        if self.num_return_sequences > 1 and not self.do_sample:
            raise ConfigError(
                f"num_return_sequences must be 1 without sampling, got {self.num_return_sequences}: "
                "all would be the same; pass do_sample=True"
            )
        if self.seed is not None and not _is_integer(self.seed, 0):
            raise ConfigError(f"seed must be an integer of at least 0 or None, got {self.seed!r}")
        if "" in self.stops or set(map(type, self.stops)) - {str}:
            raise ConfigError(f"stop_strings must be strings that are not empty, got {self.stop_strings!r}")
        if not all(_is_integer(token, 0) for token in self.end_ids):
            raise ConfigError(f"eos_token_id must be token ids of at least 0, got {self.eos_token_id!r}")

    def _check_number(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:  # NaN fits nowhere
            raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple."""
        given = self.stop_strings
        return (given,) if isinstance(given, str) else tuple(given or ())

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The end tokens as a tuple."""
        given = self.eos_token_id
        return (int(given),) if isinstance(given, (int, np.integer)) else tuple(given or ())


def _is_integer(value: object, lowest: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= lowest
