"""The angles of rotary positions, and how they are scaled for contexts longer than those trained on.

A pair of elements j of rotary_dim turns by theta_j m at position m, theta_j = base^(-2j / rotary_dim); each
kind of scaling lowers the frequencies theta in its own way. Names are those of Hugging Face's `rope_scaling`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pymodel import ops
from pymodel.errors import ConfigError
from pymodel.tensor import Tensor, tensor

DEFAULT_THETA = 10000.0
_OLD_NAMES = {"su": "longrope", "ntk": "dynamic"}


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
        given = {name: value for name, value in values.items() if value is not None and name != "type"}
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


# -- frequencies: one for each pair, and the factor of cos and sin

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
    divisors = np.asarray(p.long_factor if length > trained else p.short_factor, dtype=np.float64)
    plain = _powers(p.rope_theta, width)
    if divisors.shape != plain.shape:
        raise ConfigError(
            f"rope_scaling: short_factor and long_factor must hold {plain.size} numbers, one for each pair "
            f"of elements that is turned, got {divisors.size}"
        )
    factor = p.factor or context / trained
    attention_factor = p.attention_factor
    if attention_factor is None:
        attention_factor = math.sqrt(1.0 + math.log(factor) / math.log(trained)) if factor > 1.0 else 1.0
    return plain / divisors, attention_factor


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
_FOLLOWING_LENGTH = ("dynamic", "longrope")

# -- tables -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Rotation:
    """What `ops.rotary` takes for the tokens of one call.

    cos, sin: (rows, rotary_dim / 2) float32.
    rows: (batch, sequence) int64, the row of each token, or None where token i has row i.
    """

    cos: Tensor
    sin: Tensor
    rows: Tensor | None = None

    def turn(self, x: Tensor) -> Tensor:
        """Turns fresh heads, (batch, sequence, heads, head_dim), in place."""
        return ops.rotary(x, self.cos, self.sin, self.rows, inplace=True)


class RotaryPositions:
    """Turns positions into the tables that `ops.rotary` reads.

    Angles, and their cosines and sines, are computed in float64 and rounded once: in float32 an angle at
    position 100000 would be off by up to 0.004.

    Args:
        parameters: of the angles.
        head_dim: width of a head, of which `partial_rotary_factor` is turned.
        context: the model's max_position_embeddings.

    Raises: ConfigError for parameters that do not fit the head.
    """

    def __init__(self, parameters: RopeParameters, head_dim: int, context: int) -> None:
        self.parameters, self.context = parameters, context
        self._width = int(head_dim * parameters.partial_rotary_factor)
        if self._width < 1 or self._width + self._width % 2 > head_dim:
            raise ConfigError(
                f"rotary positions turn pairs of elements: {self._width} of a head's {head_dim} cannot be "
                "paired; set head_dim to an even number"
            )
        if parameters.rope_type == "dynamic" and self._width <= 2:
            raise ConfigError("rope_scaling: 'dynamic' needs heads of more than one pair of elements")
        self._frequencies(context)
        self._frequencies(context + 1)

    def __call__(self, positions: np.ndarray, counts: np.ndarray | int, device: str) -> Rotation:
        """The angles of the tokens of one call.

        Args:
            positions: (sequence,), or (batch, sequence) where rows differ.
            counts: how many tokens of every row are no padding on the right, (batch,) or one for all.
            device: where the tables go.
        """
        lengths = self._lengths(positions, counts)
        if lengths is None or (lengths == lengths[0]).all():
            length = 0 if lengths is None else int(lengths[0])
            known, rows = np.unique(positions, return_inverse=True)
            in_order = positions.ndim == 1 and known.size == positions.size
            tables = self._tables(positions if in_order else known, length)
            index = None if in_order else tensor(rows.reshape(positions.shape), device=device)
        else:
            every = np.broadcast_to(positions, (lengths.size, positions.shape[-1]))
            pairs = [self._tables(row, int(length)) for row, length in zip(every, lengths, strict=True)]
            tables = tuple(np.concatenate(parts) for parts in zip(*pairs, strict=True))
            index = tensor(np.arange(every.size).reshape(every.shape), device=device)
        cos, sin = (tensor(table, device=device) for table in tables)
        return Rotation(cos, sin, index)

    def _lengths(self, positions: np.ndarray, counts: np.ndarray | int) -> np.ndarray | None:
        """The length of every row's text, (batch,) or (1,), where the angles depend on it: each row of a
        batch is turned as it would be alone."""
        if self.parameters.rope_type not in _FOLLOWING_LENGTH or positions.size == 0:
            return None
        real = np.arange(positions.shape[-1]) < np.reshape(counts, (-1, 1))
        last: np.ndarray = np.where(real, positions, 0).max(axis=-1)
        return last + 1

    def _tables(self, positions: np.ndarray, length: int) -> tuple[np.ndarray, ...]:
        frequencies, factor = self._frequencies(length)
        angles = positions[:, None] * frequencies
        return tuple((function(angles) * factor).astype(np.float32) for function in (np.cos, np.sin))

    def _frequencies(self, length: int) -> _Frequencies:
        return SCALINGS[self.parameters.rope_type](self.parameters, self._width, self.context, length)
