import numpy as np
import pytest
import torch
from reference import assert_as_good_as_torch, check_op, gradient_of, to_torch

import pymodel as pm
from pymodel.dtypes import numpy_dtype

DTYPES = ["float32", "float16", "bfloat16"]
PAIRS = {"softmax": (pm.ops.softmax, torch.softmax), "log_softmax": (pm.ops.log_softmax, torch.log_softmax)}

# (shape, dim): rows shorter than a vector, one past a vector, one past a block of the online sum (64
# vectors of at most 16 lanes), a vocabulary; then dimensions that are not the last.
CASES = [
    ((5, 3), -1),
    ((3, 17), 1),
    ((2, 1025), -1),
    ((2, 50257), -1),
    ((4, 1), -1),
    ((71,), 0),
    ((2, 3, 5), 1),
    ((2, 65, 33), 1),
    ((9, 4, 16), 0),
    ((6, 1, 1), 0),
    ((5001, 3), 0),
    ((2, 3, 4, 5, 6), -3),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), CASES)
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_matches_torch(name, shape, dim, dtype):
    ours, theirs = PAIRS[name]
    x = np.random.default_rng(0).standard_normal(shape) * 3
    check_op(lambda x: ours(x, dim), lambda x: theirs(x, dim), [x], dtype)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_takes_any_strides(name, dim):
    ours, theirs = PAIRS[name]
    values = pm.tensor(np.random.default_rng(1).standard_normal((8, 6, 20)), dtype="float32")
    for view in (values.permute(2, 0, 1), values[::2, :, 1::3], values[:, 1:2, :], values[:, :, 3:]):
        assert not view.is_contiguous()
        x = view.requires_grad_()
        y = ours(x, dim)
        # The incoming gradient has strides of its own.
        dy = pm.tensor(np.random.default_rng(2).standard_normal(view.shape[::-1]), dtype="float32")
        y.backward(dy.permute(2, 1, 0))
        reference = {}
        for dtype in (torch.float32, torch.float64):
            leaf = to_torch(view.numpy(), dtype).requires_grad_()
            out = theirs(leaf, dim)
            out.backward(to_torch(dy.numpy().T, dtype))
            reference[dtype] = (out, leaf.grad)
        for i, mine in enumerate((y, x.grad)):
            assert_as_good_as_torch(mine, reference[torch.float32][i], reference[torch.float64][i], "float32")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", PAIRS)
def test_softmax_of_nothing_is_nothing(name, shape, dim):
    x = pm.empty(shape).requires_grad_()
    y = PAIRS[name][0](x, dim)
    assert y.shape == shape
    y.backward(pm.empty(shape))
    assert gradient_of(x).shape == shape


def test_softmax_of_a_scalar_is_one():
    assert pm.ops.softmax(pm.tensor(-3.5), 0).item() == 1.0
    assert pm.ops.log_softmax(pm.tensor(-3.5)).item() == 0.0


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_softmax_of_large_values_does_not_overflow(name, dim, offset):
    x = np.random.default_rng(3).standard_normal((40, 40)) + offset
    ours, theirs = PAIRS[name]
    check_op(lambda x: ours(x, dim), lambda x: theirs(x, dim), [x], "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [0, 1])
def test_softmax_of_a_masked_slice_is_zero_with_zero_gradient(dtype, dim):
    values = np.random.default_rng(4).standard_normal((21, 21)).astype(np.float32)
    values[np.tril_indices(21, -1)] = -np.inf  # slices masked in part, and one more entirely
    values[:, 7] = -np.inf
    values[20, :] = -np.inf
    dead = np.isneginf(values).all(axis=dim)
    assert dead.any()
    gradients = []
    for op, fill in ((pm.ops.softmax, 0.0), (pm.ops.log_softmax, -np.inf)):
        x = pm.tensor(values, dtype=dtype, requires_grad=True)
        y = op(x, dim)
        y.backward(pm.tensor(np.ones((21, 21)), dtype=dtype))
        result = np.moveaxis(y.numpy().astype(np.float64), dim, -1)
        gradient = np.moveaxis(gradient_of(x).numpy().astype(np.float64), dim, -1)
        assert (result[dead] == fill).all()
        assert (gradient[dead] == 0).all()
        assert not np.isnan(result).any()
        assert not np.isnan(gradient).any()
        expected = torch.softmax(to_torch(x.numpy(), torch.float64), dim).numpy()
        alive = np.moveaxis(expected, dim, -1)[~dead]
        np.testing.assert_allclose(
            result[~dead] if fill == 0 else np.exp(result[~dead]),
            alive,
            atol=2e-2 if dtype != "float32" else 1e-6,
        )
        gradients.append(gradient)
    # The probabilities sum to one whatever x is: a gradient of ones comes back as (nearly) zero.
    assert np.abs(gradients[0]).max() < 2e-2


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dim", [0, 1])
def test_softmax_keeps_nan_in_its_slice(name, dim):
    values = np.zeros((20, 20), np.float32)
    values[3, 5] = np.nan
    x = pm.tensor(values, requires_grad=True)
    y = PAIRS[name][0](x, dim)
    y.backward(pm.ones((20, 20)))
    touched = np.zeros((20, 20), bool)
    touched[(slice(None), 5) if dim == 0 else (3, slice(None))] = True
    np.testing.assert_array_equal(np.isnan(y.numpy()), touched)
    np.testing.assert_array_equal(np.isnan(gradient_of(x).numpy()), touched)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("shape", "dim"), [((64, 1500), 1), ((3, 50257), 1), ((64, 30, 50), 1)])
def test_softmax_bits_do_not_depend_on_threads(name, shape, dim):
    values = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    threads, results = pm.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            x = pm.tensor(values, requires_grad=True)
            y = PAIRS[name][0](x, dim)
            y.backward(pm.tensor(values[::-1].copy()))
            results.append(y.numpy().tobytes() + gradient_of(x).numpy().tobytes())
    finally:
        pm.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_sums_to_one(dtype):
    values = np.random.default_rng(6).standard_normal((3, 50257)).astype(numpy_dtype(dtype))
    total = pm.ops.softmax(pm.tensor(values)).numpy().astype(np.float64).sum(-1)
    np.testing.assert_allclose(total, 1, rtol={"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-3}[dtype])


def test_softmax_names_what_is_wrong():
    x = pm.zeros((2, 3))
    with pytest.raises(IndexError, match=r"softmax: dim must lie between -2 and 1 .* got 2"):
        pm.ops.softmax(x, 2)
    with pytest.raises(IndexError, match=r"log_softmax: dim .* got -3"):
        pm.ops.log_softmax(x, -3)
    with pytest.raises(TypeError, match=r"log_softmax: x must be float32 or float16 or bfloat16, got int64"):
        pm.ops.log_softmax(pm.arange(3))
