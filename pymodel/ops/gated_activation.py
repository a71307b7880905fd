"""The product of a gated feed-forward network: SwiGLU, GEGLU and their kin."""

from __future__ import annotations

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.tensor import Tensor


def gated_activation(gate: Tensor, up: Tensor, activation: str = "silu") -> Tensor:
    """An activated gate times what it lets through, forward and backward in one pass each.

    y = f(gate) * up

    Args:
        gate: any shape; float32, float16 or bfloat16, computed in float32.
        up: like gate.
        activation: f; "silu" (SwiGLU), "gelu" or "gelu_tanh" (GEGLU), "sigmoid" (GLU), "relu" (ReGLU),
            "tanh", or "none" (bilinear).

    Returns: a tensor like gate.

    Raises: ValueError for shapes or an activation that do not fit, TypeError for other dtypes.

    Source: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
    """
    gate_array, up_array = gate._array, up._array
    y = gate_array.empty_like()
    _core.gated_activation_forward(activation, gate_array, up_array, y)
    result = Tensor(y)
    if wants_grad(gate, up):

        def backward(dy: _core.Array) -> tuple[_core.Array, _core.Array]:
            dgate, dup = gate_array.empty_like(), up_array.empty_like()
            _core.gated_activation_backward(activation, dy, gate_array, up_array, dgate, dup)
            return dgate, dup

        record("gated_activation", result, (gate, up), backward)
    return result
