"""Every kernel gives the same bits in every order of its threads, forward and backward.

A missing barrier lets some order read what is not yet written, or overwrite what is still read. The
sizes take several blocks, several tiles and the paths for ragged ends.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from orders import run_under_orders

import pymodel as pm
from pymodel import _core, ops, optim

HALF_TYPES = ["float16", "bfloat16"]


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    reason = _core.why_unavailable("simt")
    if reason:
        pytest.skip(f"simt: {reason}")
    with pm.device("simt"):
        yield


class Inputs:
    """Random tensors that require gradients, the same ones in each run."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(7)
        self.tensors: list[pm.Tensor] = []

    def __call__(self, *shape: int) -> pm.Tensor:
        values = self.rng.standard_normal(shape)
        self.tensors.append(pm.tensor(values, dtype=self.dtype, requires_grad=True))
        return self.tensors[-1]

    def integers(self, high: int, *shape: int) -> pm.Tensor:
        return pm.tensor(self.rng.integers(0, high, shape), dtype="int64")


def check(build: Callable[[Inputs], pm.Tensor], dtype: str, seeds: int = 2) -> None:
    def compute() -> list[np.ndarray]:
        inputs = Inputs(dtype)
        pm.manual_seed(3)
        y = build(inputs)
        direction = np.random.default_rng(8).standard_normal(y.shape)
        (y * pm.tensor(direction, dtype=y.dtype)).sum().backward()
        gradients = [t.grad.numpy().copy() for t in inputs.tensors if t.grad is not None]
        return [y.detach().numpy().copy(), *gradients]

    results = run_under_orders(compute, seeds)
    assert all(np.isfinite(result.astype(np.float32)).all() for result in results)


OPS: dict[str, Callable[[Inputs], pm.Tensor]] = {
    "linear": lambda make: ops.linear(make(70, 136), make(72, 136), make(72), activation="gelu"),
    "linear_ragged": lambda make: ops.linear(make(67, 75), make(41, 75), make(41)),
    "linear_deep": lambda make: ops.linear(make(24, 1100), make(40, 1100)),  # split over K
    "linear_few_rows": lambda make: ops.linear(make(2, 300), make(70, 300)),
    "matmul_batches": lambda make: ops.matmul(make(3, 33, 40), make(3, 40, 65)),
    "layer_norm": lambda make: ops.layer_norm(make(37, 200), make(200), make(200)),
    "layer_norm_wide": lambda make: ops.layer_norm(make(5, 9001), make(9001), make(9001)),
    "rms_norm": lambda make: ops.rms_norm(make(37, 130), make(130)),
    "softmax": lambda make: ops.softmax(make(9, 1500)),
    "softmax_strided": lambda make: ops.softmax(make(3, 700, 40), dim=1),
    "cross_entropy": lambda make: ops.cross_entropy(
        make(21, 1003), make.integers(1003, 21), label_smoothing=0.1
    ),
    "embedding": lambda make: ops.embedding(make.integers(11, 40, 33), make(11, 48)),
    "dropout": lambda make: ops.dropout(make(50, 77), 0.3),
    "gelu": lambda make: ops.gelu(make(1000)),
    "broadcast": lambda make: make(40, 1, 33) * make(25, 33) + make(33),
    "transpose": lambda make: ops.contiguous(make(70, 90).permute((1, 0))),
    "sum_all": lambda make: make(300, 301).sum(),
    "sum_columns": lambda make: make(700, 75).sum(0),
    "max_rows": lambda make: ops.max(make(33, 700), -1),
    "indexing": lambda make: make(30, 40)[[3, 3, 29, 0, 3]],
}


@pytest.mark.parametrize("name", OPS)
def test_simt_op_has_the_same_bits_in_every_order(name: str):
    check(OPS[name], "float32")


@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("name", ["linear", "linear_ragged", "linear_deep", "layer_norm", "softmax"])
def test_simt_op_has_the_same_bits_in_every_order_in_half_precision(name: str, dtype: str):
    check(OPS[name], dtype, seeds=1)


ATTENTION: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "plain": {},
    "dropout": {"dropout_p": 0.2},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", ATTENTION)
def test_simt_attention_has_the_same_bits_in_every_order(options: str, dtype: str):
    def build(make: Inputs) -> pm.Tensor:
        return ops.attention(
            make(1, 70, 4, 40), make(1, 131, 2, 40), make(1, 131, 2, 40), **ATTENTION[options]
        )

    check(build, dtype, seeds=1)


def test_simt_optimizer_step_has_the_same_bits_in_every_order():
    def compute() -> list[np.ndarray]:
        rng = np.random.default_rng(5)
        parameters = [pm.tensor(rng.standard_normal(n), requires_grad=True) for n in (3, 20000, 1, 777)]
        for parameter in parameters:
            parameter.grad = pm.tensor(rng.standard_normal(parameter.shape))
        norm = optim.clip_grad_norm_(parameters, 1.0)
        optim.AdamW(parameters, lr=0.1).step()
        return [np.asarray(float(norm)), *(p.detach().numpy().copy() for p in parameters)]

    run_under_orders(compute)


def test_simt_argmax_has_the_same_bits_in_every_order():
    x = np.random.default_rng(6).integers(0, 50, (20, 3000)).astype(np.float32)  # with ties
    (found,) = run_under_orders(lambda: [ops.argmax(pm.tensor(x), -1).numpy().copy()])
    assert np.array_equal(found, x.argmax(-1))
