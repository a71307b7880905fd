"""Activation functions. Fused into `linear` and `mlp` they give the same bits in float32."""

from __future__ import annotations

from pymodel import _core
from pymodel.autograd import is_grad_enabled, record
from pymodel.tensor import Tensor


def _activation(name: str, x: Tensor) -> Tensor:
    array = x._array
    out = array.empty_like()
    _core.activation(name, array, out)
    result = Tensor(out)
    if x.requires_grad and is_grad_enabled():

        def backward(d: _core.Array) -> _core.Array:
            dx = array.empty_like()
            _core.activation_backward(name, array, d, dx)
            return dx

        record(name, result, (x,), backward)
    return result


def relu(x: Tensor) -> Tensor:
    """max(x, 0) of a floating tensor, with gradient 0 at 0. NaN stays."""
    return _activation("relu", x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """The Gaussian error linear unit of a floating tensor.

    gelu(x) = x Phi(x) = x/2 (1 + erf(x / sqrt(2)))
    approximately x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))

    Args:
        x: any shape.
        approximate: "none" for the first form, "tanh" for the second, which GPT-2 uses.

    Raises: ValueError for another `approximate`, TypeError for an integer tensor.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _activation("gelu" if approximate == "none" else "gelu_tanh", x)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x) of a floating tensor, also known as swish.

    Source: Elfwing, Uchibe and Doya, arXiv:1702.03118.
    """
    return _activation("silu", x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent of a floating tensor."""
    return _activation("tanh", x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^(-x)) of a floating tensor."""
    return _activation("sigmoid", x)
