"""Making tensors, asking what they are, and handing their values to Python and NumPy."""

import ast
import copy
import inspect
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import pymodel as pm
from pymodel import _core
from pymodel.errors import DeviceError

DTYPES = ["float32", "float16", "bfloat16", "int32", "int64", "uint8", "bool"]


# -- making -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (3, "int64"),
        (True, "bool"),
        ([1.0, 2.0], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([], "float32"),
        (np.float32(2), "float32"),
        (np.zeros(2), "float32"),
        (np.zeros(2, np.float16), "float16"),
        (np.zeros(2, ml_dtypes.bfloat16), "bfloat16"),
        (np.zeros((0, 3), np.uint8), "uint8"),
        (range(3), "int64"),
        (torch.zeros(2, dtype=torch.bfloat16), "bfloat16"),
    ],
    ids=repr,
)
def test_tensor_takes_its_dtype_from_the_data(data, dtype):
    x = pm.tensor(data)
    assert x.dtype == dtype
    assert x.shape == np.shape(data)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensor_converts_to_the_dtype_asked_for(dtype):
    x = pm.tensor([[0, 1], [1, 0]], dtype=dtype)
    assert x.dtype == x.numpy().dtype.name == dtype
    assert x.tolist() == [[0, 1], [1, 0]]
    assert pm.tensor(x, dtype="float32").tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_tensor_copies_what_it_is_made_from():
    array = np.zeros(3, np.float32)
    same = torch.zeros(3)
    first = pm.tensor(array)
    for source in (array, same, first):
        x = pm.tensor(source)
        x.numpy()[...] = 1
        assert not np.asarray(source).any()
    reversed_array = np.arange(3, dtype=np.float32)[::-1]
    assert pm.tensor(reversed_array).tolist() == [2.0, 1.0, 0.0]
    assert pm.tensor(np.arange(2, dtype=">f4")).tolist() == [0.0, 1.0]


def test_tensor_from_numpy_shares_memory():
    for dtype in DTYPES:
        array = pm.zeros((2, 3), dtype=dtype).numpy()
        x = pm.from_numpy(array[:, ::2])
        x.numpy()[1, 1] = 1
        assert array[1, 2] == 1
        assert x.strides == (3, 2)


def test_tensor_from_numpy_takes_read_only_arrays_as_they_are(tmp_path):
    file = tmp_path / "tokens.bin"
    np.arange(10, dtype=np.int32).tofile(file)
    x = pm.from_numpy(np.memmap(file, dtype=np.int32, mode="r"))
    assert x.tolist() == list(range(10))
    assert not x.numpy().flags.writeable
    assert pm.tensor(x).numpy().flags.writeable


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: pm.tensor([1.0], dtype="float64"),
            TypeError,
            "'float64' is unknown; expected one of float32",
        ),
        (lambda: pm.tensor(np.zeros(1, np.complex64)), TypeError, r"complex64.*\.astype\(np\.float32\)"),
        (lambda: pm.tensor(["a"]), TypeError, "no tensor counterpart"),
        (lambda: pm.tensor([[1], [1, 2]]), ValueError, "inhomogeneous"),
        (lambda: pm.tensor([1.0], device="cuda"), DeviceError, "cuda.*device='cpu'"),
        (lambda: pm.empty((2,), device="moon"), DeviceError, "'moon' is unknown"),
        (lambda: pm.empty((-1,)), ValueError, r"no negative extents, got \(-1,\)"),
        (lambda: pm.empty((1,) * 9), ValueError, "at most 8 dimensions"),
        (lambda: pm.empty((2**40, 2**40)), MemoryError, "exceeds the address space"),
        (lambda: pm.from_numpy(np.zeros(2)), TypeError, "float64"),
        (lambda: pm.from_numpy(np.zeros(2, np.float32)[::-1]), ValueError, "negative strides"),
        (lambda: pm.from_numpy(np.zeros(2, ">f4")), ValueError, "foreign byte order"),
    ],
)
def test_tensor_errors_name_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_tensor_constant_fills():
    assert pm.zeros((2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert pm.ones((2,), dtype="bool").tolist() == [True, True]
    assert pm.full((2,), 7, dtype="int64").tolist() == [7, 7]
    assert pm.full((), 2**60 + 1, dtype="int64").item() == 2**60 + 1
    assert pm.full((0, 3), 1.5).shape == (0, 3)
    assert pm.arange(4, dtype="int32").tolist() == [0, 1, 2, 3]
    assert pm.ones((1,), requires_grad=True).requires_grad
    assert pm.empty((3,), dtype="bfloat16").nbytes == 6


# -- what it is -------------------------------------------------------------------------------------


def test_tensor_describes_itself():
    x = pm.tensor(np.zeros((2, 3, 4), np.float32))
    assert (x.shape, x.strides, x.ndim, x.numel(), len(x)) == ((2, 3, 4), (12, 4, 1), 3, 24, 2)
    assert x.size() == (2, 3, 4)
    assert x.size(-1) == 4
    assert (x.dtype, x.nbytes, x.is_floating_point) == ("float32", 96, True)
    assert x.device == "cpu"
    assert x.device.type == "cpu"
    assert x.is_contiguous()
    assert not x.mT.is_contiguous()
    assert x.is_leaf
    assert not pm.arange(1).is_floating_point
    with pytest.raises(TypeError, match="without dimensions"):
        len(pm.tensor(1.0))


def test_tensor_repr_shows_values_and_kind():
    assert repr(pm.tensor([1.0, 2.0])) == "tensor([1., 2.], dtype=float32, device=cpu)"
    x = pm.tensor([[1.0], [0.5]], dtype="bfloat16", requires_grad=True)
    assert "0.5" in repr(x)
    assert repr(x).endswith("dtype=bfloat16, device=cpu, requires_grad=True)")
    assert len(repr(pm.zeros((1000, 1000)))) < 1000
    assert f"{pm.tensor(1.23456):.2f}" == "1.23"
    assert f"{pm.tensor(7):>3d}" == "  7"
    assert f"{pm.tensor([1])}" == "tensor([1], dtype=int64, device=cpu)"


# -- values -----------------------------------------------------------------------------------------


def test_tensor_to_python_numbers():
    assert pm.tensor(2.5).item() == 2.5
    assert isinstance(pm.tensor(2.5, dtype="bfloat16").item(), float)
    assert isinstance(pm.tensor([[3]]).item(), int)
    assert pm.tensor(True).item() is True
    assert (float(pm.tensor(2)), int(pm.tensor(2.7)), bool(pm.tensor([0.0]))) == (2.0, 2, False)
    assert pm.tensor([1.5, 2.0], dtype="bfloat16").tolist() == [1.5, 2.0]
    with pytest.raises(ValueError, match=r"one element, got shape \(2,\)"):
        pm.zeros((2,)).item()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensor_to_numpy_shares_memory(dtype):
    x = pm.zeros((2, 3), dtype=dtype)
    array = x.T.numpy()
    array[2, 1] = 1
    assert x.numpy()[1, 2] == 1
    assert np.shares_memory(np.asarray(x), x.numpy())
    del x
    assert array[2, 1] == 1


def test_tensor_array_protocol_converts_and_copies():
    x = pm.ones((2,), dtype="bfloat16")
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="bfloat16 tensor cannot become a float32 array without a copy"):
        x.__array__(np.float32, copy=False)
    copied = x.__array__(copy=True)
    copied[0] = 5
    assert x.tolist() == [1.0, 1.0]


def test_tensor_copies_and_pickles():
    for dtype in DTYPES:
        x = pm.tensor([[1, 0, 1], [0, 1, 1]], dtype=dtype).T
        for twin in (copy.deepcopy(x), copy.copy(x)):
            np.testing.assert_array_equal(twin.numpy(), x.numpy())
            assert twin.dtype == dtype
        assert not np.shares_memory(copy.deepcopy(x).numpy(), x.numpy())
    leaf = pm.ones((2,), requires_grad=True)
    assert copy.deepcopy(leaf).requires_grad
    with pytest.raises(RuntimeError, match="leaves"):
        copy.deepcopy(leaf * 2.0)


def test_tensor_detach_shares_memory_off_the_tape():
    x = pm.ones((2,), requires_grad=True)
    y = x.detach()
    y.numpy()[0] = 5
    assert x.tolist() == [5.0, 1.0]
    assert not y.requires_grad
    assert x.requires_grad_(False) is x


# -- the stub -----------------------------------------------------------------------------------------


def test_tensor_core_stub_names_every_entry_point():
    tree = ast.parse((Path(inspect.getfile(pm)).parent / "_core.pyi").read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    functions = {node.name for node in tree.body if isinstance(node, kinds)}
    if not hasattr(_core, "simt_set_schedule"):  # a build without the emulator
        functions = {name for name in functions if not name.startswith("simt_")}
    assert functions == {name for name in dir(_core) if not name.startswith("_")}
    (array,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Array")
    members = {node.name for node in array.body if isinstance(node, ast.FunctionDef)}
    assert members == {name for name in dir(_core.Array) if not name.startswith("_")}
