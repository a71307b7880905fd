import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import shifted, spaced
from orders import run_under_orders
from reference import TORCH_DTYPES, assert_as_good_as_torch, check_op, gradient_of, to_torch

import pymodel as pm

DTYPES = ["float32", "float16", "bfloat16"]


def table(entries, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((entries, columns))


# (shape of indices, entries, columns): one index, every row of the table, columns narrower than a vector
# and wider than both stripes of backward, more entries than one and than two bytes of the sort, runs of
# equal indices about as long as a task's range of positions and several times longer, among others.
CASES = [
    ((), 5, 3),
    ((1,), 1, 1),
    ((4, 6), 10, 16),
    ((2, 3, 4), 300, 33),
    ((50,), 70000, 7),
    ((700,), 3, 130),
    ((40,), 6, 1050),
    ((2000,), 1000, 20),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "entries", "columns"), CASES)
def test_embedding_matches_torch(shape, entries, columns, dtype):
    indices = np.random.default_rng(1).integers(0, entries, shape)
    check_op(
        lambda w: pm.ops.embedding(pm.tensor(indices), w),
        lambda w: F.embedding(torch.tensor(indices), w),
        [table(entries, columns)],
        dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embedding_gradient_of_a_table_larger_than_the_caches(dtype):
    entries, columns = 9001, 1003  # odd, so that rows begin anywhere in a cache line
    indices = np.random.default_rng(1).integers(0, entries, 500)
    indices[::2] = 17
    weight = pm.tensor(table(entries, columns), dtype=dtype, requires_grad=True)
    dy = np.random.default_rng(2).integers(-3, 4, (500, columns)).astype(np.float32)
    pm.ops.embedding(pm.tensor(indices), weight).backward(pm.tensor(dy, dtype=dtype))
    expected = np.zeros((entries, columns), np.float32)
    np.add.at(expected, indices, dy)
    gradient = gradient_of(weight).numpy().astype(np.float32)
    np.testing.assert_array_equal(gradient, pm.tensor(expected, dtype=dtype).numpy().astype(np.float32))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_embedding_takes_any_integer_dtype(kind):
    indices = np.array([[3, 0, 255], [255, 7, 3]])
    check_op(
        lambda w: pm.ops.embedding(pm.tensor(indices.astype(kind)), w),
        lambda w: F.embedding(torch.tensor(indices), w),
        [table(256, 12)],
        "float32",
    )


@pytest.mark.parametrize("padding_idx", [0, 2, -1, -5])
def test_embedding_padding_gets_no_gradient(padding_idx):
    indices = np.random.default_rng(2).integers(0, 5, (3, 40))
    check_op(
        lambda w: pm.ops.embedding(pm.tensor(indices), w, padding_idx),
        lambda w: F.embedding(torch.tensor(indices), w, padding_idx),
        [table(5, 9)],
        "float32",
    )


def test_embedding_takes_any_strides():
    values = table(20, 24).astype(np.float32)
    indices = np.random.default_rng(3).integers(0, 10, (8, 6))
    dy = np.random.default_rng(4).standard_normal((24, 6, 8)).astype(np.float32)
    table_tensor, transposed = pm.tensor(values), pm.tensor(values.T.copy())
    for view in (transposed.permute(1, 0), table_tensor[::2, ::2], table_tensor[:10, 3:17]):
        assert not view.is_contiguous()
        weight, dense = view.requires_grad_(), view.numpy()
        y = pm.ops.embedding(pm.tensor(indices).permute(1, 0), weight)
        np.testing.assert_array_equal(y.numpy(), dense[indices.T])
        y.backward(pm.tensor(dy).permute(1, 2, 0)[..., : view.shape[1]])
        expected = np.zeros(view.shape)
        np.add.at(expected, indices.T, dy.transpose(1, 2, 0)[..., : view.shape[1]].astype(np.float64))
        np.testing.assert_allclose(gradient_of(weight).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_adds_to_the_gradient_that_is_there(dtype):
    indices = np.random.default_rng(5).integers(0, 30, (200,))
    weight = pm.tensor(table(40, 21), dtype=dtype, requires_grad=True)
    first = pm.tensor(table(40, 21, seed=6), dtype=dtype)
    weight.grad = pm.tensor(first)
    address = gradient_of(weight).data_ptr()
    dy = pm.tensor(table(200, 21, seed=7), dtype=dtype)
    pm.ops.embedding(pm.tensor(indices), weight).backward(dy)
    assert gradient_of(weight).data_ptr() == address
    results = {}
    for torch_dtype in (TORCH_DTYPES[dtype], torch.float64):
        leaf = to_torch(weight.numpy(), torch_dtype).requires_grad_()
        leaf.grad = to_torch(first.numpy(), torch_dtype)
        F.embedding(torch.tensor(indices), leaf).backward(to_torch(dy.numpy(), torch_dtype))
        results[torch_dtype] = leaf.grad
    assert_as_good_as_torch(weight.grad, results[TORCH_DTYPES[dtype]], results[torch.float64], dtype)
    # Entries that were not picked keep their bits.
    np.testing.assert_array_equal(gradient_of(weight).numpy()[30:], first.numpy()[30:])


def test_embedding_used_twice_sums_its_gradients():
    weight = pm.tensor(table(6, 4), dtype="float32", requires_grad=True)
    for indices in ([0, 1, 1], [1, 5, 0]):
        pm.ops.embedding(pm.tensor(indices), weight).backward(pm.ones((3, 4)))
    np.testing.assert_array_equal(gradient_of(weight).numpy()[:, 0], [2, 3, 0, 0, 0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_sums_many_repeats_in_float32(dtype):
    # Adding 4096 ones one by one in bfloat16 would stop at 256, in float16 at 2048.
    weight = pm.zeros((2, 5), dtype, requires_grad=True)
    pm.ops.embedding(pm.zeros((4096,), "int64"), weight).backward(pm.ones((4096, 5), dtype))
    assert (gradient_of(weight).numpy().astype(np.float32) == [[4096.0], [0.0]]).all()


@pytest.mark.parametrize(
    ("shape", "entries", "columns"), [((0,), 5, 3), ((2, 0), 5, 3), ((0,), 0, 3), ((4,), 5, 0)]
)
def test_embedding_of_nothing(shape, entries, columns):
    weight = pm.zeros((entries, columns), requires_grad=True)
    y = pm.ops.embedding(pm.zeros(shape, "int64"), weight)
    assert y.shape == (*shape, columns)
    y.backward(pm.zeros(y.shape))
    assert gradient_of(weight).shape == weight.shape
    assert (gradient_of(weight).numpy() == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("entries", [1, 2, 5000])
def test_embedding_bits_do_not_depend_on_threads(dtype, entries):
    indices = np.random.default_rng(8).integers(0, entries, 3000)
    dy = np.random.default_rng(9).standard_normal((3000, 200))
    threads, results = pm.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            weight = pm.zeros((entries, 200), dtype, requires_grad=True)
            pm.ops.embedding(pm.tensor(indices), weight).backward(pm.tensor(dy, dtype=dtype))
            results.append(gradient_of(weight).numpy().tobytes())
    finally:
        pm.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


# Rows of 16 bytes and odd ones, at multiples of 16 bytes and elsewhere; more positions than a tile of
# the sort on devices, and runs of equal indices over one, two and many ranges of its sums.
@pytest.mark.parametrize("columns", [8, 13, 1100])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embedding_sums_runs_of_any_length(columns, dtype):
    lengths = np.array([1, 64, 63, 130, 2, 1900, 64, 300])
    rng = np.random.default_rng(10)
    indices = rng.permutation(np.repeat(np.arange(len(lengths)), lengths))
    dy = pm.tensor(rng.standard_normal((len(indices), columns)), dtype=dtype)
    results = []
    for place in (lambda x: pm.tensor(x), shifted, spaced):
        weight = pm.zeros((len(lengths) + 1, columns), dtype, requires_grad=True)
        pm.ops.embedding(place(indices), weight).backward(place(dy.numpy()))
        results.append(gradient_of(weight).numpy())
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    references = []
    for torch_dtype in (TORCH_DTYPES[dtype], torch.float64):
        leaf = torch.zeros((len(lengths) + 1, columns), dtype=torch_dtype, requires_grad=True)
        F.embedding(torch.tensor(indices), leaf).backward(to_torch(dy.numpy(), torch_dtype))
        references.append(leaf.grad)
    same, exact = references
    assert_as_good_as_torch(results[0], same, exact, dtype)


def test_embedding_has_the_same_bits_in_every_order_of_threads(device):
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")
    rng = np.random.default_rng(11)
    indices = np.concatenate([np.full(200, 300), rng.integers(0, 700, 2000)])
    dy = rng.standard_normal((2200, 12)).astype(np.float32)

    def compute():
        weight = pm.tensor(table(700, 12), dtype="float32", requires_grad=True)
        y = pm.ops.embedding(pm.tensor(indices), weight, padding_idx=7)
        y.backward(pm.tensor(dy))
        return [y.numpy(), gradient_of(weight).numpy()]

    run_under_orders(compute, seeds=1)


def test_embedding_names_the_index_that_is_no_row():
    weight = pm.zeros((10, 4))
    indices = np.zeros((3, 5), np.int64)
    indices[2, 1] = 10
    with pytest.raises(IndexError, match=r"embedding: indices\[2, 1\] is 10, but weight has rows 0 to 9"):
        pm.ops.embedding(pm.tensor(indices), weight)
    indices[1, 3] = -1
    with pytest.raises(IndexError, match=r"indices\[1, 3\] is -1"):
        pm.ops.embedding(pm.tensor(indices), weight)
    with pytest.raises(IndexError, match=r"indices is 12, but"):
        pm.ops.embedding(pm.tensor(12), weight)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_embedding_picks_rows_of_any_dtype(dtype):
    table = (np.arange(12).reshape(4, 3) % 5).astype(dtype)
    picked = pm.ops.embedding(pm.tensor([3, 0, 3]), pm.tensor(table))
    assert picked.dtype == dtype
    np.testing.assert_array_equal(picked.numpy(), table[[3, 0, 3]])


def test_embedding_names_what_is_wrong():
    indices, weight = pm.arange(3), pm.zeros((10, 4))
    with pytest.raises(TypeError, match="embedding: indices must be int64 or int32 or uint8, got float32"):
        pm.ops.embedding(pm.zeros((3,)), weight)
    with pytest.raises(ValueError, match=r"weight must have shape \(entries, columns\), got \(10,\)"):
        pm.ops.embedding(indices, pm.zeros((10,)))
    for padding_idx in (10, -11):
        with pytest.raises(
            ValueError, match=f"padding_idx must be a row of weight, 0 to 9, got {padding_idx}"
        ):
            pm.ops.embedding(indices, weight, padding_idx)
