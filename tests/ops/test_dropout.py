import numpy as np
import pytest
from memory import shifted, spaced, transposed
from reference import gradient_of

import pymodel as pm
from pymodel import _core

DTYPES = ["float32", "float16", "bfloat16"]
# One element, fewer than a vector, one past a group of Philox blocks (4 * 16), several chunks of tasks.
SHAPES = [(), (3,), (5, 13), (7, 2, 1033)]


def values_of(tensor):
    return np.asarray(tensor.numpy()).astype(np.float64)


@pytest.fixture(autouse=True)
def _seeded():
    state = pm.get_rng_state()
    pm.manual_seed(1234)
    yield
    pm.set_rng_state(state)


def expected_mask(count, p, seed, offset):
    """The mask from the scalar generator."""
    blocks = [_core.philox(seed, i, offset) for i in range((count + 3) // 4)]
    words = np.array(blocks, np.uint64).reshape(-1)[:count]
    return words < min(round((1 - p) * 2**32), 2**32 - 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.97])
def test_dropout_follows_the_generator_forward_and_backward(shape, p, dtype):
    rng = np.random.default_rng(0)
    x = pm.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True)
    dy = pm.tensor(rng.standard_normal(shape), dtype=dtype)
    state = pm.get_rng_state()
    y = pm.ops.dropout(x, p)
    y.backward(dy)
    mask = expected_mask(x.numel(), p, state["seed"], state["offset"]).reshape(shape)
    for result, source in ((y, x), (x.grad, dy)):
        exact = values_of(source) * mask / (1 - p)
        rounding = {"float32": 2**-23, "float16": 2**-11, "bfloat16": 2**-8}[dtype]
        # Half the smallest float16 for what is subnormal there.
        np.testing.assert_allclose(values_of(result), exact, rtol=1.01 * rounding, atol=2**-25)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_adds_the_residual(shape, dtype):
    rng = np.random.default_rng(1)
    x = pm.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True)
    residual = pm.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True)
    dy = pm.tensor(rng.standard_normal(shape), dtype=dtype)
    state = pm.get_rng_state()
    y = pm.ops.dropout(x, 0.3, residual=residual)
    pm.set_rng_state(state)
    alone = pm.ops.dropout(pm.tensor(x, dtype="float32"), 0.3)
    # x is rounded once: after the addition, in float32 until then.
    exact = values_of(alone) + values_of(residual)
    rounding = {"float32": 2**-23, "float16": 2**-11, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(values_of(y), exact, rtol=1.01 * rounding, atol=1e-7)
    y.backward(dy)
    np.testing.assert_array_equal(values_of(gradient_of(residual)), values_of(dy))
    pm.set_rng_state(state)
    masked = pm.ops.dropout(dy, 0.3)
    np.testing.assert_array_equal(values_of(gradient_of(x)), values_of(masked))


def test_dropout_of_one_tensor_with_itself_as_residual():
    x = pm.ones((50,), requires_grad=True)
    y = pm.ops.dropout(x, 0.5, residual=x)
    y.backward(pm.ones((50,)))
    assert set(y.numpy()) == {1.0, 3.0}
    np.testing.assert_array_equal(gradient_of(x).numpy(), y.numpy())


@pytest.mark.parametrize("wanting", ["x", "residual"])
def test_dropout_gives_gradients_only_where_they_are_wanted(wanting):
    tensors = {"x": pm.ones((6,)), "residual": pm.ones((6,))}
    tensors[wanting].requires_grad_()
    y = pm.ops.dropout(tensors["x"], 0.5, residual=tensors["residual"])
    y.backward(pm.ones((6,)))
    assert [name for name, tensor in tensors.items() if tensor.grad is not None] == [wanting]


def test_dropout_draws_one_mask_whatever_the_strides():
    values = np.random.default_rng(2).standard_normal((40, 30)).astype(np.float32)
    state, results = pm.get_rng_state(), []
    for layout in (pm.tensor, transposed, spaced, shifted):
        pm.set_rng_state(state)
        x = layout(values).requires_grad_()
        y = pm.ops.dropout(x, 0.4, residual=layout(values))
        y.backward(layout(values))
        results.append((y.numpy(), gradient_of(x).numpy()))
    for result, gradient in results[1:]:
        np.testing.assert_array_equal(result, results[0][0])
        np.testing.assert_array_equal(gradient, results[0][1])


# Around a vector, and around a grid that fills the emulated GPU.
@pytest.mark.parametrize("count", [1, 4, 7, 4 * 8 * 256 * 4 + 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_has_the_bits_of_the_cpu(count, dtype):
    values = np.random.default_rng(5).standard_normal(count).astype(np.float32)
    state, results = pm.get_rng_state(), []
    for device in (None, "cpu"):
        pm.set_rng_state(state)
        x = pm.tensor(values, dtype=dtype, device=device)
        y = pm.ops.dropout(x, 0.25, residual=x)
        results.append(y.numpy().tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_draws_one_mask_whatever_the_dtype(dtype):
    wanted = pm.ops.dropout(pm.ones((999,)), 0.5).numpy() != 0
    pm.manual_seed(1234)
    np.testing.assert_array_equal(values_of(pm.ops.dropout(pm.ones((999,), dtype), 0.5)) != 0, wanted)


def test_dropout_keeps_the_share_it_is_asked_to_keep():
    for p in (0.1, 0.5, 0.9):
        y = pm.ops.dropout(pm.ones((400_000,)), p).numpy()
        share = (y != 0).mean()
        assert abs(share - (1 - p)) < 5 * np.sqrt(p * (1 - p) / y.size)  # five standard deviations
        assert abs(y.mean() - 1) < 0.02


def test_dropout_draws_a_new_mask_each_call_and_the_same_after_seeding():
    x = pm.ones((1000,))
    first, second = pm.ops.dropout(x), pm.ops.dropout(x)
    assert (first.numpy() != second.numpy()).any()
    pm.manual_seed(1234)
    np.testing.assert_array_equal(pm.ops.dropout(x).numpy(), first.numpy())


@pytest.mark.parametrize("options", [{"p": 0.0}, {"p": 0.7, "training": False}])
def test_dropout_without_dropping_is_the_identity_and_draws_nothing(options):
    x = pm.tensor([1.0, 2.0], requires_grad=True)
    residual = pm.tensor([10.0, 20.0], requires_grad=True)
    state = pm.get_rng_state()
    assert pm.ops.dropout(x, **options) is x
    y = pm.ops.dropout(x, residual=residual, **options)
    y.backward(pm.ones((2,)))
    assert y.tolist() == [11.0, 22.0]
    assert gradient_of(x).tolist() == gradient_of(residual).tolist() == [1.0, 1.0]
    assert pm.get_rng_state() == state


def test_dropout_of_everything_gives_zeros():
    x = pm.tensor([1.0, -np.inf, np.nan, 4.0], requires_grad=True)
    y = pm.ops.dropout(x, 1.0)
    y.backward(pm.ones((4,)))
    assert y.tolist() == gradient_of(x).tolist() == [0.0] * 4
    assert pm.ops.dropout(x, 1.0, residual=pm.ones((4,))).tolist() == [1.0] * 4


@pytest.mark.host_only("threads of the CPU")
def test_dropout_bits_do_not_depend_on_threads():
    threads, results = pm.get_num_threads(), []
    x = np.random.default_rng(3).standard_normal(100_001)
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            pm.manual_seed(7)
            results.append(pm.ops.dropout(pm.tensor(x, dtype="bfloat16"), 0.2).numpy().tobytes())
    finally:
        pm.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_dropout_of_nothing(shape):
    x = pm.empty(shape).requires_grad_()
    y = pm.ops.dropout(x, residual=pm.empty(shape))
    y.backward(pm.empty(shape))
    assert y.shape == gradient_of(x).shape == shape


def test_dropout_names_what_is_wrong():
    x = pm.ones((2, 3))
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"dropout: p must lie between 0 and 1, got {p}"):
            pm.ops.dropout(x, p)
    with pytest.raises(ValueError, match=r"dropout: residual must have shape \(2, 3\) like x, got \(3,\)"):
        pm.ops.dropout(x, residual=pm.ones((3,)))
    with pytest.raises(
        TypeError, match=r'residual must be float32 like x, got float16; convert it with .to\("float32"\)'
    ):
        pm.ops.dropout(x, residual=pm.ones((2, 3), "float16"))
    with pytest.raises(TypeError, match="dropout: x must be float32 or float16 or bfloat16, got int64"):
        pm.ops.dropout(pm.arange(4))
