"""The frequencies of rotary positions, and their scalings for contexts longer than those trained on.

A pair of elements j of rotary_dim turns by theta_j m at position m, theta_j = base^(-2j / rotary_dim); each
kind of scaling lowers the frequencies theta in its own way. Names are those of Hugging Face's `rope_scaling`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pymodel.errors import ConfigError

DEFAULT_THETA = 10000.0
_OLD_NAMES = {"su": "longrope"}
_WITHOUT_EFFECT = ("type", "finetuned")  # the former is an old name of rope_type


@dataclasses.dataclass
class RopeParameters:
    """What decides the angles; `rope_parameters` of transformers 5, `rope_scaling` and `rope_theta` of 4.

    Args:
        rope_type: one of SCALINGS.
        rope_theta: the base.
        factor: by how much the context is longer than the trained one.
        partial_rotary_factor: share of a head that is turned.
        original_max_position_embeddings: the context that was trained on; the model's own when None.
        attention_factor: of cos and sin; what the method's paper says when None.
        beta_fast, beta_slow, mscale, mscale_all_dim, truncate: of "yarn".
        low_freq_factor, high_freq_factor: of "llama3".
        short_factor, long_factor: of "longrope", a divisor for each frequency.

    Raises: ConfigError for numbers that do not fit.
    """

    rope_type: str = "default"
    rope_theta: float = DEFAULT_THETA
    factor: float | None = None
    partial_rotary_factor: float = 1.0
    original_max_position_embeddings: int | None = None
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    short_factor: list[float] | None = None
    long_factor: list[float] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RopeParameters:
        """Reads a configuration's dictionary; keys that are null take their defaults."""
        given = {n: value for n, value in values.items() if value is not None and n not in _WITHOUT_EFFECT}
        kind = given.get("rope_type", values.get("type", "default"))
        given["rope_type"] = _OLD_NAMES.get(kind, kind)
        known = [field.name for field in dataclasses.fields(cls)]
        for name in given:
            if name not in known:
                raise ConfigError(f"rope_scaling: unknown key {name!r}; known keys are {', '.join(known)}")
        result = cls(**given)
        result._check()
        return result

    def _check(self) -> None:
        if self.rope_type not in SCALINGS:
            raise ConfigError(
                f"rope_scaling: rope_type {self.rope_type!r} is not built in; "
                f"expected one of {', '.join(SCALINGS)}"
            )
        for name in _NEEDED.get(self.rope_type, ()):
            if getattr(self, name) is None:
                raise ConfigError(f"rope_scaling: {name} is missing, which {self.rope_type!r} needs")
        for field in dataclasses.fields(self):
            if field.name not in ("rope_type", "truncate"):
                _check_numbers(field.name, getattr(self, field.name))
        for name in ("rope_theta", "original_max_position_embeddings"):
            value = getattr(self, name)
            if value is not None and value <= 1:
                raise ConfigError(f"rope_scaling: {name} must be above 1, got {value}")
        if not 0.0 < self.partial_rotary_factor <= 1.0:
            raise ConfigError(
                "rope_scaling: partial_rotary_factor must be above 0 and at most 1, "
                f"got {self.partial_rotary_factor}"
            )
        if self.factor is not None and self.factor < 1.0:
            raise ConfigError(f"rope_scaling: factor must be at least 1, got {self.factor}")
        low, high = self.low_freq_factor, self.high_freq_factor
        if low is not None and high is not None and high <= low:
            raise ConfigError(
                f"rope_scaling: high_freq_factor must be above low_freq_factor, got {high} and {low}"
            )


def _check_numbers(name: str, value: Any) -> None:
    for number in value if isinstance(value, list) else [value]:
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if number is not None and not (is_number and number > 0):
            raise ConfigError(f"rope_scaling: {name} must be a number above 0, got {value!r}")


# -- what `frequencies` returns, by kind

_Frequencies = tuple[np.ndarray, float]


def _powers(base: float, width: int) -> np.ndarray:
    """base^(-2j / width) of the pairs j among the `width` elements of a head that are turned."""
    return base ** -(np.arange(0, width, 2) / width)


def _default(p: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """Source: Su et al., "RoFormer", arXiv:2104.09864."""
    return _powers(p.rope_theta, width), 1.0


def _linear(p: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """All positions squeezed into the trained ones. Source: Chen et al., arXiv:2306.15595."""
    return _powers(p.rope_theta, width) / (p.factor or 1.0), 1.0


def _dynamic(p: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """A base that grows with the text once it is longer than the context, so that the highest frequency stays
    and the lowest one is stretched. Source: Peng et al., "YaRN", arXiv:2309.00071, section 3.1."""
    factor, longest = p.factor or 1.0, max(length, context)
    growth = factor * longest / context - (factor - 1.0)
    return _powers(p.rope_theta * growth ** (width / (width - 2)), width), 1.0


def _yarn(p: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """High frequencies stay, low ones are divided by the factor, a ramp lies between.

    Source: Peng et al., "YaRN", arXiv:2309.00071, sections 3.2 to 3.4.
    """
    trained = p.original_max_position_embeddings or context
    factor = p.factor or context / trained

    def turning(rotations: float) -> float:
        """The pair that turns so many times within the trained context."""
        return width * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(p.rope_theta))

    low, high = turning(p.beta_fast), turning(p.beta_slow)
    if p.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    if low == high:
        high += 0.001  # as in transformers: a step instead of a ramp
    plain = _powers(p.rope_theta, width)
    ramp = np.clip((np.arange(plain.size) - low) / (high - low), 0.0, 1.0)
    return plain / factor * ramp + plain * (1.0 - ramp), _yarn_attention_factor(p, factor)


def _yarn_attention_factor(p: RopeParameters, factor: float) -> float:
    def temperature(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1.0 else 1.0

    if p.attention_factor is not None:
        return p.attention_factor
    if p.mscale is not None and p.mscale_all_dim is not None:
        return temperature(p.mscale) / temperature(p.mscale_all_dim)
    return temperature(1.0)


def _longrope(p: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """A divisor for every frequency, of one set for texts within the trained context and of another beyond.

    Source: Ding et al., "LongRoPE", arXiv:2402.13753.
    """
    trained = p.original_max_position_embeddings or context
    plain = _powers(p.rope_theta, width)
    short, long = (np.asarray(divisors, dtype=np.float64) for divisors in (p.short_factor, p.long_factor))
    if not short.shape == long.shape == plain.shape:
        raise ConfigError(
            f"rope_scaling: short_factor and long_factor must hold {plain.size} numbers, one for each pair "
            f"of elements that is turned, got {short.size} and {long.size}"
        )
    factor = p.factor or context / trained
    attention_factor = p.attention_factor
    if attention_factor is None:
        attention_factor = math.sqrt(1.0 + math.log(factor) / math.log(trained)) if factor > 1.0 else 1.0
    return plain / (long if length > trained else short), attention_factor


def _llama3(p: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """Wavelengths much shorter than the trained context stay, much longer ones are stretched by the factor.

    Source: Grattafiori et al., "The Llama 3 Herd of Models", arXiv:2407.21783; the formula is that of
    https://github.com/meta-llama/llama-models, apply_scaling.
    """
    plain = _powers(p.rope_theta, width)
    trained = p.original_max_position_embeddings or context
    low, high = p.low_freq_factor or 1.0, p.high_freq_factor or 4.0
    share = np.clip((trained * plain / (2 * math.pi) - low) / (high - low), 0.0, 1.0)
    return plain * (share + (1.0 - share) / (p.factor or 1.0)), 1.0


SCALINGS: dict[str, Callable[[RopeParameters, int, int, int], _Frequencies]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
_NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
FOLLOWING_LENGTH = ("dynamic", "longrope")  # whose frequencies depend on a text's length


def frequencies(parameters: RopeParameters, width: int, context: int, length: int) -> _Frequencies:
    """The angles by which pairs of elements turn from one position to the next.

    Args:
        parameters: with their scaling.
        width: how many elements of a head are turned.
        context: the model's max_position_embeddings.
        length: of the text, in tokens.

    Returns: one number for each pair, float64, and the factor of cosines and sines.

    Raises: ConfigError for factors that are not one for each pair.
    """
    return SCALINGS[parameters.rope_type](parameters, width, context, length)
