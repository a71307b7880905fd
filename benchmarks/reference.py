"""The operations in float64 NumPy: the truth that every contender is held to before it is timed.

Each takes what the op takes, and with `dy` returns the gradients of its floating inputs after the output.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def wide(*arrays: Array) -> list[Array]:
    """In float64."""
    return [np.asarray(x, dtype=np.float64) for x in arrays]


def layer_norm(x: Array, weight: Array, bias: Array, dy: Array | None = None) -> list[Array]:
    """Normalises the last dimension to mean 0 and variance 1."""
    x, weight, bias = wide(x, weight, bias)
    centred = x - x.mean(-1, keepdims=True)
    scale = 1.0 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    normal = centred * scale
    y = normal * weight + bias
    if dy is None:
        return [y]
    (dy,) = wide(dy)
    g = dy * weight
    dx = scale * (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True))
    return [y, dx, (dy * normal).sum(0), dy.sum(0)]


def rms_norm(x: Array, weight: Array, dy: Array | None = None) -> list[Array]:
    """Divides by the root of the mean square."""
    x, weight = wide(x, weight)
    scale = 1.0 / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    normal = x * scale
    if dy is None:
        return [normal * weight]
    (dy,) = wide(dy)
    g = dy * weight
    dx = scale * (g - normal * (g * normal).mean(-1, keepdims=True))
    return [normal * weight, dx, (dy * normal).sum(0)]


def rotary(x: Array, cos: Array, sin: Array, dy: Array) -> list[Array]:
    """The halves of each head turned by the angles of its position, and the gradient."""

    def turned(values: Array, cos: Array, sin: Array) -> Array:
        first, second = np.split(values, 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    x, dy, cos, sin = wide(x, dy, cos[:, None], sin[:, None])
    return [turned(x, cos, sin), turned(dy, cos, -sin)]


def softmax(x: Array, dy: Array | None = None) -> list[Array]:
    """Over the last dimension."""
    (x,) = wide(x)
    y = np.exp(x - x.max(-1, keepdims=True))
    y /= y.sum(-1, keepdims=True)
    if dy is None:
        return [y]
    (dy,) = wide(dy)
    return [y, y * (dy - (dy * y).sum(-1, keepdims=True))]


def cross_entropy(logits: Array, targets: Array) -> list[Array]:
    """The mean loss, and the gradient of the logits."""
    (probabilities,) = softmax(logits)
    rows = np.arange(len(targets))
    loss = -np.log(probabilities[rows, targets]).mean()
    probabilities[rows, targets] -= 1.0
    return [loss, probabilities / len(targets)]


def linear_cross_entropy(x: Array, weight: Array, targets: Array) -> list[Array]:
    """The mean loss of the logits x weight^T, and the gradients of both."""
    x, weight = wide(x, weight)
    loss, dlogits = cross_entropy(x @ weight.T, targets)
    return [loss, dlogits @ weight, dlogits.T @ x]


def gelu(x: Array, dy: Array) -> list[Array]:
    """With the tanh approximation."""
    x, dy = wide(x, dy)
    factor = math.sqrt(2.0 / math.pi)
    t = np.tanh(factor * (x + 0.044715 * x**3))
    slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t**2) * factor * (1.0 + 3 * 0.044715 * x**2)
    return [0.5 * x * (1.0 + t), dy * slope]


def swiglu(gate: Array, up: Array, dy: Array) -> list[Array]:
    """SiLU of the gate times what it lets through, and both gradients."""
    gate, up, dy = wide(gate, up, dy)
    s = 1.0 / (1.0 + np.exp(-gate))
    return [gate * s * up, dy * up * s * (1.0 + gate * (1.0 - s)), dy * gate * s]


def embedding(indices: Array, weight: Array, dy: Array) -> list[Array]:
    """Rows picked from a table, and the table's gradient."""
    gradient = np.zeros(weight.shape)
    np.add.at(gradient, indices, wide(dy)[0])
    return [wide(weight)[0][indices], gradient]


def adamw(value: Array, gradient: Array, settings: dict[str, Any]) -> Array:
    """The first step, after which the moments are the gradient and its square."""
    value, gradient = wide(value, gradient)
    decayed = value * (1.0 - settings["lr"] * settings["weight_decay"])
    return decayed - settings["lr"] * gradient / (np.abs(gradient) + settings["eps"])


def attention(
    q: Array, k: Array, v: Array, causal: bool, lengths: Array, dout: Array | None = None
) -> list[Array]:
    """Self-attention of (batch, length, heads, width); `lengths` (batch,) are the real tokens.

    Rows beyond a length are zero, in the output and in the gradients.
    """
    out, *gradients = (np.zeros(q.shape) for _ in range(1 if dout is None else 4))
    for sequence, head in np.ndindex(q.shape[0], q.shape[2]):
        length = int(lengths[sequence])
        at = (sequence, slice(length), head)
        queries, keys, values = wide(q[at], k[at], v[at])
        scores = queries @ keys.T / math.sqrt(q.shape[3])
        if causal:
            scores[np.triu_indices(length, 1)] = -np.inf
        (weights,) = softmax(scores)
        out[at] = weights @ values
        if dout is not None:
            (incoming,) = wide(dout[at])
            dweights = incoming @ values.T
            dscores = weights * (dweights - (dweights * weights).sum(-1, keepdims=True))
            dscores /= math.sqrt(q.shape[3])
            for target, part in zip(
                gradients, (dscores @ keys, dscores.T @ queries, weights.T @ incoming), strict=True
            ):
                target[at] = part
    return [out, *gradients]
