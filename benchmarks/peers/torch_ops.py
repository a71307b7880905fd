"""torch's side of the op cases: tensors over the same memory, and its best call for each op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.harness import Contender

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def tensor(array: np.ndarray, requires_grad: bool = False) -> torch.Tensor:
    """A tensor over the array's own memory; torch knows bfloat16, but not NumPy's type of that name."""
    if array.dtype.name == "bfloat16":
        shared = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        shared = torch.from_numpy(array)
    return shared.requires_grad_(requires_grad and shared.is_floating_point())


def product(a: np.ndarray, b: np.ndarray, layout: str) -> Contender:
    """mm into memory that is there; a T of the layout says that an operand is stored transposed."""
    x = tensor(a).t() if layout[0] == "T" else tensor(a)
    y = tensor(b).t() if layout[1] == "T" else tensor(b)
    out = torch.empty(x.shape[0], y.shape[1], dtype=x.dtype)

    def call() -> list[torch.Tensor]:
        return [torch.mm(x, y, out=out)]

    return call


def attention(causal: bool, mask: np.ndarray | None) -> Callable[..., torch.Tensor]:
    """SDPA on (batch, length, heads, width); `mask` (batch, 1, 1, length) is true where a key counts."""
    allowed = None if mask is None else torch.from_numpy(mask)

    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal)
        return out.transpose(1, 2)

    return call


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Over the last dimension."""
    return F.rms_norm(x, x.shape[-1:], weight, 1e-6)


def rotary(cos: torch.Tensor, sin: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """As transformers computes it: tables of the whole width in x's dtype, and `rotate_half`."""
    wide_cos, wide_sin = (torch.cat((table, table), dim=-1)[:, None] for table in (cos, sin))

    def call(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        rotated = torch.cat((-second, first), dim=-1)
        return x * wide_cos.to(x.dtype) + rotated * wide_sin.to(x.dtype)

    return call


def softmax(x: torch.Tensor) -> torch.Tensor:
    """Over the last dimension."""
    return F.softmax(x, -1)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """With the tanh approximation of GPT-2."""
    return F.gelu(x, approximate="tanh")


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """As transformers computes it."""
    return F.silu(gate) * up


def linear_cross_entropy(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of the products with a vocabulary's embeddings."""
    return F.cross_entropy((x @ weight.t()).float(), targets)


cross_entropy = F.cross_entropy
embedding = F.embedding
add = torch.add
linear = F.linear


def adamw(
    values: Sequence[np.ndarray], gradients: Sequence[np.ndarray], settings: dict[str, Any]
) -> Contender:
    """A step of the fused AdamW over copies of the values."""
    parameters = [torch.nn.Parameter(tensor(value.copy())) for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = tensor(gradient)
    optimizer = torch.optim.AdamW(parameters, fused=True, **settings)

    def call() -> list[torch.Tensor]:
        optimizer.step()
        return list(parameters)

    return call
