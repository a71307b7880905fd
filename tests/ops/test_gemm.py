"""gemm itself, where linear and matmul do not reach: every way a device kernel fetches, cuts and finishes.

The shapes name the regimes of the device kernels (csrc/ops/gemm/gemm.h); the CPU passes the same tests.
"""

import numpy as np
import pytest
import torch
from memory import transposed
from orders import run_under_orders
from products import DTYPES, LAYOUTS, check_product, draw, product
from reference import TORCH_DTYPES, assert_as_good_as_torch, to_float64, to_torch

import pymodel as pm
from pymodel import _core


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
# tiles in 16-byte copies; in 4-byte copies; one by one: over one tile in every dimension
@pytest.mark.parametrize(("m", "n", "k"), [(72, 80, 48), (66, 70, 34), (67, 65, 33)])
def test_gemm_reads_any_layout(m: int, n: int, k: int, left: str, right: str, dtype: str) -> None:
    check_product(LAYOUTS[left](draw(m, k), dtype), LAYOUTS[right](draw(k, n, seed=1), dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (5, 6, 2000),  # one tile: K cut into parts, the last one short
        (40, 100, 520),  # two tiles and two parts
        (1, 1, 3000),  # a dot product
        (1170, 1240, 24),  # enough tiles of 128 x 128, ragged at both ends
    ],
)
def test_gemm_cuts_any_shape(m: int, n: int, k: int, dtype: str) -> None:
    check_product(pm.tensor(draw(m, k), dtype=dtype), pm.tensor(draw(k, n, seed=1), dtype=dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("right", ["rows dense", "columns dense"])
def test_gemm_of_large_tiles_reads_columns(right: str, dtype: str) -> None:
    # as the gradient of a weight does, here with 100 tiles of 128 x 128
    check_product(transposed(draw(1176, 24), dtype), LAYOUTS[right](draw(24, 1160, seed=1), dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows dense", "columns dense", "columns misaligned"])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 7, 8])
# whole runs of columns and of K; ragged blocks of columns with a K that is cut
@pytest.mark.parametrize(("n", "k"), [(128, 64), (136, 328)])
def test_gemm_of_few_rows(rows: int, n: int, k: int, layout: str, dtype: str) -> None:
    check_product(pm.tensor(draw(rows, k), dtype=dtype), LAYOUTS[layout](draw(k, n, seed=1), dtype), dtype)


@pytest.mark.host_only("device kernels take few rows up to 4")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows dense", "columns dense"])
# several chunks of columns and parts of K, both ragged; more parts than are kept apart
@pytest.mark.parametrize(("n", "k"), [(6400, 130), (24, 4200)])
def test_gemm_of_few_rows_gives_each_row_what_it_gets_alone(n: int, k: int, layout: str, dtype: str) -> None:
    a, b = draw(8, k), LAYOUTS[layout](draw(k, n, seed=1), dtype)
    check_product(pm.tensor(a, dtype=dtype), b, dtype)
    together = (pm.tensor(a, dtype=dtype) @ b).numpy()
    for row in range(8):
        alone = (pm.tensor(a[row : row + 1], dtype=dtype) @ b).numpy()
        np.testing.assert_array_equal(alone, together[row : row + 1])


@pytest.mark.host_only("device kernels take few rows up to 4")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("rows", "n", "k", "layout"),
    [
        (32, 2060, 270, "rows dense"),  # ragged columns, more of them than are summed at a time
        (31, 600, 900, "rows dense"),  # every number of rows that is taken at a time, longer parts of K
        (16, 70, 300, "columns dense"),
    ],
)
def test_gemm_of_more_rows_gives_each_what_it_gets_alone(
    rows: int, n: int, k: int, layout: str, dtype: str
) -> None:
    a, b = draw(rows, k), LAYOUTS[layout](draw(k, n, seed=1), dtype)
    check_product(pm.tensor(a, dtype=dtype), b, dtype)
    check_product(pm.tensor(a.T, dtype=dtype).transpose(0, 1), b, dtype)
    together = (pm.tensor(a, dtype=dtype) @ b).numpy()
    for row in (0, rows // 2, rows - 1):
        alone = (pm.tensor(a[row : row + 1], dtype=dtype) @ b).numpy()
        np.testing.assert_array_equal(alone, together[row : row + 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out_dtype", ["own", "float32"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (9, 136, 40),  # in 16-byte accesses
        (9, 135, 40),  # element by element
        (9, 16, 1100),  # by the pass that adds the parts of K
        (2, 136, 64),  # few rows
        (9, 8, 0),  # the epilogue of zero
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_gemm_epilogue_in_full(m: int, n: int, k: int, backward: bool, out_dtype: str, dtype: str) -> None:
    out_dtype = dtype if out_dtype == "own" else out_dtype
    a, b = pm.tensor(draw(m, k), dtype=dtype), pm.tensor(draw(k, n, seed=1), dtype=dtype)
    bias, residual, c = (pm.tensor(draw(*s, seed=2), dtype=dtype) for s in ((n,), (m, n), (m, n)))
    pre = pm.tensor(draw(m, n, seed=3), dtype=dtype)
    c = c.to(out_dtype)
    before = {name: x.numpy().copy() for name, x in {"pre": pre, "c": c}.items()}
    _core.gemm(
        a._array,
        b._array,
        c._array,
        bias._array,
        residual._array,
        pre._array,
        alpha=0.5,
        beta=2.0,
        activation="gelu",
        activation_gradient=backward,
    )

    results = []
    for t in (TORCH_DTYPES[dtype], torch.float64):
        at = {name: to_torch(x, t) for name, x in before.items()}
        z = 0.5 * (to_torch(a.numpy(), t) @ to_torch(b.numpy(), t)) + to_torch(bias.numpy(), t)
        if backward:
            point = at["pre"].requires_grad_()
            (f,) = torch.autograd.grad(torch.nn.functional.gelu(point), point, z)
        else:
            f = torch.nn.functional.gelu(z)
        results.append((f + to_torch(residual.numpy(), t) + 2.0 * at["c"], z))
    (same, same_z), (exact, exact_z) = results
    assert_as_good_as_torch(c, same, exact, dtype)
    if backward:
        np.testing.assert_array_equal(pre.numpy(), before["pre"])
    else:
        assert_as_good_as_torch(pre, same_z, exact_z, dtype, "preactivation")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_gemm_activation_has_the_bits_of_the_op(activation: str, dtype: str) -> None:
    a, b = pm.tensor(draw(30, 20), dtype=dtype), pm.tensor(draw(20, 65, seed=1), dtype=dtype)
    pre = pm.full((30, 65), float("nan"), dtype=dtype)
    fused = product(a, b, preactivation=pre._array, activation=activation)
    separate = _core.empty([30, 65], dtype, pre.device)
    _core.activation(activation, pre._array, separate)
    np.testing.assert_array_equal(fused.numpy(), pm.Tensor(separate).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_of_a_stack_is_the_gemms_of_its_matrices(dtype: str) -> None:
    # 24 products with four tiles of 128 x 128 each take the large tiles that one would not
    a = pm.tensor(draw(4, 6, 130, 40), dtype=dtype)
    b = pm.tensor(draw(4, 1, 130, 40, seed=1), dtype=dtype).transpose(-1, -2)
    stack = pm.ops.matmul(a, b)
    for i, j in ((0, 0), (2, 3), (3, 5)):
        same, exact = (
            to_torch(a[i, j].numpy(), t) @ to_torch(b[i, 0].numpy(), t)
            for t in (TORCH_DTYPES[dtype], torch.float64)
        )
        assert_as_good_as_torch(stack[i, j], same, exact, dtype)


# tiles of 64 x 64; tiles of 128 x 128; copies of four bytes
@pytest.mark.parametrize(("m", "n", "k"), [(72, 80, 48), (1176, 1160, 24), (70, 90, 300)])
@pytest.mark.parametrize("right", ["rows dense", "columns dense"])
@pytest.mark.parametrize("left", ["rows dense", "columns dense"])
def test_gemm_in_tf32_keeps_its_bound(left: str, right: str, m: int, n: int, k: int) -> None:
    a, b = LAYOUTS[left](draw(m, k), "float32"), LAYOUTS[right](draw(k, n, seed=1), "float32")
    pm.set_float32_matmul_precision("high")
    try:
        error = np.abs(to_float64(product(a, b)) - to_float64(a) @ to_float64(b))
    finally:
        pm.set_float32_matmul_precision("highest")
    assert (error <= 2.0**-10 * (np.abs(to_float64(a)) @ np.abs(to_float64(b))) + 1e-6).all()


def test_float32_matmul_precision_rounds_on_devices_only(device: str) -> None:
    a, b = pm.tensor(draw(70, 300)), pm.tensor(draw(300, 90, seed=1))
    exact = to_float64(a) @ to_float64(b)
    magnitude = np.abs(to_float64(a)) @ np.abs(to_float64(b))
    highest = pm.ops.matmul(a, b).numpy()
    assert pm.get_float32_matmul_precision() == "highest"
    pm.set_float32_matmul_precision("high")
    try:
        assert pm.get_float32_matmul_precision() == "high"
        high = pm.ops.matmul(a, b).numpy()
    finally:
        pm.set_float32_matmul_precision("highest")
    assert (np.abs(high - exact) <= 2.0**-10 * magnitude + 1e-6).all()
    if device == "cpu":
        np.testing.assert_array_equal(high, highest)
    else:
        assert np.abs(high - exact).max() > 10 * np.abs(highest - exact).max(), "tf32 was not used"
    with pytest.raises(ValueError, match=r"expected 'highest' .* got 'medium'"):
        pm.set_float32_matmul_precision("medium")  # type: ignore[arg-type]


def test_gemm_gives_the_same_bits_in_any_order_of_threads(device: str) -> None:
    if device != "simt":
        pytest.skip("only the emulator has orders to choose from")

    def compute() -> list[np.ndarray]:
        results = []
        for dtype in ("float32", "bfloat16"):
            # several steps along K in copies of each width; parts of K; few rows by either layout of B
            for m, n, k, right in (
                (66, 72, 200, "rows dense"),
                (66, 72, 199, "columns misaligned"),
                (9, 10, 600, "rows dense"),
                (3, 136, 200, "rows dense"),
                (3, 136, 200, "columns dense"),
            ):
                a, b = pm.tensor(draw(m, k), dtype=dtype), LAYOUTS[right](draw(k, n, seed=1), dtype)
                results.append(product(a, b).numpy())
        pm.set_float32_matmul_precision("high")
        try:
            results.append(product(pm.tensor(draw(66, 200)), pm.tensor(draw(200, 72, seed=1))).numpy())
        finally:
            pm.set_float32_matmul_precision("highest")
        return results

    run_under_orders(compute)
