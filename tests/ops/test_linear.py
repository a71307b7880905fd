"""linear and mlp against torch: every activation, layout and fused addition, forward and backward."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import check_op, gradient_of

import pymodel as pm
from pymodel import ops

TORCH_ACTIVATIONS = {
    None: lambda z: z,
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
DTYPES = ["float32", "bfloat16", "float16"]
# rows, in, out: one element; below one vector; odd everywhere; the few-rows path; several blocks of k
SHAPES = [(1, 1, 1), (3, 5, 7), (19, 33, 51), (2, 130, 65), (70, 520, 100)]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width", "out"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_matches_torch(rows: int, width: int, out: int, transposed: bool, dtype: str) -> None:
    weight = draw(width, out) if transposed else draw(out, width)

    def theirs(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.linear(x, w.t() if transposed else w, b)

    def ours(x: pm.Tensor, w: pm.Tensor, b: pm.Tensor) -> pm.Tensor:
        return ops.linear(x, w, b, transposed=transposed)

    check_op(ours, theirs, [draw(rows, width), weight, draw(out, seed=1)], dtype)


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS)
def test_linear_fuses_activation_and_residual(activation: str | None) -> None:
    inputs = [draw(2, 9, 20), draw(35, 20), draw(35), draw(2, 9, 35)]
    check_op(
        lambda x, w, b, r: ops.linear(x, w, b, activation, residual=r),
        lambda x, w, b, r: TORCH_ACTIVATIONS[activation](F.linear(x, w, b)) + r,
        inputs,
        "float32",
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [a for a in TORCH_ACTIVATIONS if a])
@pytest.mark.parametrize("transposed", [False, True])
def test_mlp_matches_torch(activation: str, transposed: bool, dtype: str) -> None:
    w1, w2 = draw(12, 21), draw(21, 12, seed=3)
    inputs = [draw(2, 5, 12), w1 if transposed else w1.T, draw(21), w2 if transposed else w2.T, draw(12)]

    def theirs(x: torch.Tensor, *p: torch.Tensor) -> torch.Tensor:
        first, second = (p[0].t(), p[2].t()) if transposed else (p[0], p[2])
        hidden = TORCH_ACTIVATIONS[activation](F.linear(x, first, p[1]))
        return F.linear(hidden, second, p[3]) + x

    def ours(x: pm.Tensor, w1: pm.Tensor, b1: pm.Tensor, w2: pm.Tensor, b2: pm.Tensor) -> pm.Tensor:
        return ops.mlp(x, w1, b1, w2, b2, activation, residual=x, transposed=transposed)

    check_op(ours, theirs, inputs, dtype)


def test_linear_accumulates_into_grad() -> None:
    x, w = pm.tensor(draw(6, 10)), pm.tensor(draw(4, 10), requires_grad=True)
    ops.linear(x, w).backward(pm.ones((6, 4)))
    once = gradient_of(w).numpy().copy()
    buffer = gradient_of(w).data_ptr()
    ops.linear(x, w).backward(pm.ones((6, 4)))
    np.testing.assert_allclose(gradient_of(w).numpy(), 2 * once, rtol=1e-6)
    assert gradient_of(w).data_ptr() == buffer, "the second gradient should have been added in place"


def test_linear_reads_strided_views() -> None:
    x = pm.tensor(draw(8, 3, 40))
    part = x[:, 1, 4:24]
    w = pm.tensor(draw(7, 20))
    np.testing.assert_array_equal(ops.linear(part, w).numpy(), ops.linear(part.clone(), w).numpy())


def test_linear_without_rows_or_depth() -> None:
    w, b = pm.tensor(draw(3, 4), requires_grad=True), pm.tensor(draw(3))
    out = ops.linear(pm.empty((0, 4)), w, b)
    assert out.shape == (0, 3)
    out.backward(pm.empty((0, 3)))
    assert not gradient_of(w).numpy().any()
    np.testing.assert_array_equal(ops.linear(pm.empty((2, 0)), pm.empty((3, 0)), b).numpy()[1], b.numpy())


@pytest.mark.parametrize("shape", [(300, 200, 150), (3, 700, 260)])
def test_linear_same_bits_for_any_thread_count(shape: tuple[int, int, int]) -> None:
    rows, width, out = shape
    results = []
    for threads in (1, 2):
        pm.set_num_threads(threads)
        x, w = (
            pm.tensor(draw(rows, width), requires_grad=True),
            pm.tensor(draw(out, width), requires_grad=True),
        )
        y = ops.linear(x, w, activation="gelu")
        y.backward(pm.ones(y.shape))
        results.append([y.numpy(), gradient_of(x).numpy(), gradient_of(w).numpy()])
    pm.set_num_threads(2)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x, w: ops.linear(x, w, transposed=True),
            ValueError,
            r"linear: weight must have shape \(4, out\)",
        ),
        (lambda x, w: ops.linear(x, w, pm.zeros((4,))), ValueError, r"linear: bias must have shape \(3,\)"),
        (
            lambda x, w: ops.linear(x, w.to("bfloat16")),
            TypeError,
            r"weight must be float32 like x, got bfloat16",
        ),
        (lambda x, w: ops.linear(x, w, activation="swish"), ValueError, "activation 'swish' is unknown"),
        (lambda x, w: ops.linear(x, w, residual=x), ValueError, r"residual must have shape \(2, 3\)"),
        (lambda x, w: ops.mlp(x, w, None, w, None), ValueError, r"mlp: weight2 must have shape \(out, 3\)"),
        (lambda x, w: ops.mlp(x, w, None, w, None, "none"), ValueError, "mlp: activation 'none' is unknown"),
    ],
)
def test_linear_names_what_does_not_fit(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call(pm.zeros((2, 4)), pm.zeros((3, 4)))
