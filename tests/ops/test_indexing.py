"""`x[...]` against NumPy and torch: values, gradients, assignment, errors."""

from typing import Any

import numpy as np
import pytest
import torch
from memory import shares_memory
from reference import check_op

import pymodel as pm

SHAPE = (4, 5, 6)
BASIC: list[Any] = [
    (0,),
    (-1, 2),
    (1, 2, 3),
    (slice(1, 3),),
    (slice(None), slice(1, None, 2)),
    (slice(None, None, 3), 1),
    (slice(3, 1),),
    (slice(-3, 100), slice(-100, -1)),
    (None, 1),
    (slice(None), None, 2, None),
    (..., 0),
    (1, ..., slice(2, 4)),
    (None, ..., None),
    (0, 1, 2, ...),
    (),
    (np.int64(2),),
]
MASK = np.random.default_rng(1).random((4, 5)) < 0.4
ARRAYS: list[Any] = [
    ([2, 0, 2],),
    (np.array([[1, -1], [0, 1]]),),
    (np.array([], dtype=np.int64),),
    ([],),
    ([3, 3, 1], slice(1, 4)),
    ([0, 1], 2),
    ([0, 1], 2, slice(None, None, 2)),
    ([0, 1, 2], [4, 3, 2]),
    ([[0], [2]], [1, 3]),
    ([0, 1], [1, 2], [-1, -2]),
    (slice(None), [4, 0]),
    (slice(1, None), [1, 1], [0, 5]),
    (..., [5, 5, 0]),
    (None, [1, 2]),
    (0, [1, 2]),
    (slice(None), 3, [1, 2]),
    (MASK,),
    (MASK, slice(1, 3)),
    (slice(None), MASK[0]),
    (np.zeros(4, bool),),
    (..., np.ones(6, bool)),
]


def unwrapped(key: tuple[Any, ...]) -> Any:
    return key[0] if len(key) == 1 else key


def as_torch_index(part: object) -> object:
    if isinstance(part, list):
        return torch.tensor(part, dtype=torch.int64)
    if isinstance(part, np.integer):
        return int(part)
    return torch.tensor(part) if isinstance(part, np.ndarray) else part


@pytest.mark.parametrize("key", BASIC + ARRAYS, ids=str)
def test_indexing_values_agree_with_numpy(key):
    values = np.arange(120, dtype=np.float32).reshape(SHAPE)
    result = pm.tensor(values)[unwrapped(key)]
    expected = values[unwrapped(key)]
    np.testing.assert_array_equal(result.numpy(), expected)
    assert result.shape == expected.shape


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("key", BASIC + ARRAYS, ids=str)
def test_indexing_gradients_agree_with_torch(key, dtype):
    values = np.random.default_rng(0).standard_normal(SHAPE)
    theirs = tuple(as_torch_index(part) for part in key)
    check_op(lambda x: x[unwrapped(key)], lambda x: x[unwrapped(theirs)], [values], dtype)


@pytest.mark.parametrize("key", BASIC, ids=str)
def test_indexing_basic_keys_give_views(key):
    x = pm.tensor(np.zeros(SHAPE, np.float32))
    result = x[unwrapped(key)]
    assert result.numel() == 0 or shares_memory(result, x)


@pytest.mark.parametrize("dtype", ["float16", "int32", "int64", "uint8", "bool"])
def test_indexing_gathers_every_dtype(dtype):
    x = pm.tensor(np.arange(12).reshape(4, 3) % 2, dtype=dtype)
    np.testing.assert_array_equal(x[[3, 0, 3]].numpy(), x.numpy()[[3, 0, 3]])
    np.testing.assert_array_equal(x[:, 1][[3, 0, 3]].numpy(), x.numpy()[[3, 0, 3], 1])
    assert x[[1]].dtype == dtype


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_indexing_takes_tensors_as_indices(dtype):
    x = pm.tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    index = np.array([1, 0])
    np.testing.assert_array_equal(x[pm.tensor(index, dtype=dtype)].numpy(), x.numpy()[index.astype(dtype)])
    if dtype != "bool":
        np.testing.assert_array_equal(x[pm.tensor(1, dtype=dtype)].numpy(), [3, 4, 5])


def test_indexing_of_transposed_and_sliced_tensors():
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    x = pm.tensor(values).permute(2, 0, 1)[::2]
    same = values.transpose(2, 0, 1)[::2]
    np.testing.assert_array_equal(x[[2, 0], 1].numpy(), same[[2, 0], 1])
    np.testing.assert_array_equal(x[1:, :, 2].numpy(), same[1:, :, 2])


def test_indexing_repeated_rows_sum_their_gradients_in_the_same_bits():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 3, 10_000)
    weights = rng.standard_normal((10_000, 33)).astype(np.float32)
    grads = []
    for threads in (1, 2, 2):
        pm.set_num_threads(threads)
        x: Any = pm.tensor(np.zeros((3, 33), np.float32), requires_grad=True)
        x[index].backward(pm.tensor(weights))
        grads.append(x.grad.numpy())
    expected = np.stack([weights[index == i].astype(np.float64).sum(0) for i in range(3)])
    np.testing.assert_allclose(grads[0], expected, rtol=1e-4, atol=1e-3)
    assert grads[0].tobytes() == grads[1].tobytes() == grads[2].tobytes()


@pytest.mark.parametrize("key", BASIC, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_indexing_assignment_agrees_with_numpy(key, dtype):
    x = pm.tensor(np.zeros(SHAPE), dtype=dtype)
    expected = x.numpy().copy()
    x[unwrapped(key)] = 1
    expected[unwrapped(key)] = 1
    np.testing.assert_array_equal(x.numpy(), expected)
    shape = expected[unwrapped(key)].shape
    values = (np.arange(np.prod(shape)) % 2).reshape(shape)
    expected[unwrapped(key)] = values
    lists = values.tolist() if values.size else 0
    for value in (values, pm.tensor(values), pm.tensor(values, dtype="float32"), lists):
        x[unwrapped(key)] = 1
        x[unwrapped(key)] = value
        np.testing.assert_array_equal(x.numpy(), expected)


def test_indexing_assignment_broadcasts_and_overlaps():
    x = pm.tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    x[:, 1:3] = pm.tensor([[7.0], [8.0], [9.0]])
    np.testing.assert_array_equal(x.numpy()[:, 1:3], [[7, 7], [8, 8], [9, 9]])
    y = pm.tensor(np.arange(100, dtype=np.float32))
    y[1:] = y[:-1]
    np.testing.assert_array_equal(y.numpy(), [0, *range(99)])


def test_indexing_assignment_is_not_recorded():
    x: Any = pm.tensor(np.zeros((2, 2), np.float32), requires_grad=True)
    plain = pm.zeros((2, 2))
    with pytest.raises(RuntimeError, match=r"x requires grad, and assignments are not recorded.*no_grad"):
        x[0] = 1.0
    with pytest.raises(RuntimeError, match=r"x requires grad"):
        (x * 2.0)[0] = 1.0
    with pytest.raises(RuntimeError, match=r"the value requires grad.*value\.detach\(\)"):
        plain[0] = x[0]
    with pm.no_grad():
        x[0] = 1.0
        plain[1] = x[0]
    assert x.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert plain.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_indexing_read_only_memory_is_not_assigned():
    array = np.zeros(3, dtype=np.float32)
    array.flags.writeable = False
    x = pm.from_numpy(array)
    for value in (1.0, pm.ones((3,))):
        with pytest.raises(ValueError, match="read-only"):
            x[:] = value
    assert array.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (4, IndexError, "index 4 is out of range for dimension 0 of extent 4"),
        ((0, -6), IndexError, "index -6 is out of range for dimension 1 of extent 5"),
        ((0, 0, 0, 0), IndexError, r"4 indices are too many for a tensor of shape \(4, 5, 6\)"),
        ((..., 0, ...), IndexError, "only one"),
        (slice(None, None, -1), ValueError, "positive steps, got -1"),
        (slice(None, None, 0), ValueError, "positive steps, got 0"),
        (1.5, TypeError, "expected integers, slices.*got float"),
        ("a", TypeError, "got str"),
        (True, TypeError, "got bool"),
        ([0.5], TypeError, "index arrays hold integers or are masks of bool, got float64"),
        ([0, 4], IndexError, "index 4 is out of range for extent 4"),
        (([0, 1], [1, 2, 3]), IndexError, r"shapes \(2,\), \(3,\) do not broadcast"),
        (np.ones(3, bool), IndexError, "mask of extent 3 lies on a dimension of extent 4"),
        (([0], slice(None), [0]), IndexError, "side by side"),
    ],
)
def test_indexing_errors_name_what_is_wrong(key, error, message):
    with pytest.raises(error, match=message):
        pm.zeros(SHAPE)[key]


def test_indexing_assignment_errors_name_the_way_out():
    x = pm.zeros((3, 4))
    with pytest.raises(TypeError, match=r"index array or mask; on the CPU assign to x\.numpy\(\)"):
        x[[0, 1]] = 1.0
    with pytest.raises(ValueError, match=r"\(3,\) cannot be broadcast to \(4,\)"):
        x[0] = pm.ones((3,))
