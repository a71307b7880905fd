"""Copies between devices: every layout and dtype, gradients, pinned memory, DLPack."""

import numpy as np
import pytest
from devices import ACCELERATORS
from dtypes import FLOATS, NUMPY

import pymodel as pm
from pymodel import _core
from pymodel.errors import DeviceError

# Each view with its reason.
VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.transpose(0, 2),
    "every second": lambda x: x[:, ::2],
    "one row": lambda x: x[1],
    "expanded": lambda x: x[:, :1].expand(4, 5, 6),
    "one element": lambda x: x[0, 0, 0],
    "nothing": lambda x: x[:, :0],
}


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("view", VIEWS)
def test_transfer_keeps_values_of_every_view(name, view):
    source = pm.tensor(np.arange(120.0).reshape(4, 5, 6))
    expected = VIEWS[view](source).numpy().copy()
    there = VIEWS[view](source).to(name)
    assert there.device == name
    assert there.is_contiguous()
    np.testing.assert_array_equal(there.numpy(), expected)
    back = VIEWS[view](source.to(name))
    np.testing.assert_array_equal(back.cpu().numpy(), expected)
    np.testing.assert_array_equal(back.numpy(), expected)


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("target", NUMPY)
@pytest.mark.parametrize("source", NUMPY)
def test_transfer_converts_on_the_way(name, source, target):
    x = pm.tensor([0, 1, 2, 100], dtype=source)
    expected = x.to(target).numpy()
    np.testing.assert_array_equal(x.to(name, target).numpy(), expected)
    np.testing.assert_array_equal(x.to(name).to("cpu", target).numpy(), expected)
    np.testing.assert_array_equal(pm.tensor(x, dtype=target, device=name).numpy(), expected)


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transfer_into_part_of_a_tensor(name, dtype):
    for here, there in (("cpu", name), (name, "cpu"), (name, name)):
        target = pm.tensor(np.zeros((3, 4)), device=there)
        target[:, 1:3].copy_(pm.tensor([[1.0], [2.0], [3.0]], dtype=dtype, device=here))
        assert target.tolist() == [[0, 1, 1, 0], [0, 2, 2, 0], [0, 3, 3, 0]]
    with pytest.raises(ValueError, match="copy: shapes"):
        pm.tensor([1.0, 2.0]).copy_(pm.tensor([1.0, 2.0, 3.0], device=name))


@pytest.mark.parametrize("name", ACCELERATORS)
def test_transfer_of_nothing_to_do_is_the_tensor_itself(name):
    x = pm.tensor([1.0], device=name)
    assert x.to(name) is x
    assert x.to(device=f"{name}:0", dtype="float32") is x
    assert x.to(x) is x
    twin = x.to(name, copy=True)
    assert twin.data_ptr() != x.data_ptr()
    assert twin.tolist() == [1.0]
    assert x.to(pm.zeros((1,), dtype="bfloat16")).device == "cpu"
    with pytest.raises(TypeError, match="expected the name of a dtype or device"):
        x.to(3)


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_transfer_lets_gradients_back(name, dtype):
    x = pm.tensor([1.0, 2.0, 3.0], requires_grad=True)
    there = x.to(name, dtype) * 2.0
    (there.cpu().to("float32") * pm.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad is not None
    assert (x.grad.device, x.grad.dtype) == ("cpu", "float32")
    assert x.grad.tolist() == [2.0, 20.0, 200.0]


# -- pinned memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACCELERATORS)
def test_transfer_from_and_to_pinned_memory(name):
    x = pm.tensor(np.arange(6.0).reshape(2, 3)).T.pin_memory()
    assert x.is_pinned
    assert x.device == "cpu"
    assert x.pin_memory() is x
    assert not (x + 1.0).is_pinned
    there = x.to(name, non_blocking=True)
    back = there.to("cpu", non_blocking=True)
    pm.synchronize(name)
    assert back.is_pinned
    np.testing.assert_array_equal(back.numpy(), x.numpy())
    assert not there.cpu().is_pinned
    with pytest.raises(DeviceError, match="pin_memory: the tensor lies on"):
        there.pin_memory()


@pytest.mark.skipif(not all(map(_core.why_unavailable, ("cuda", "simt"))), reason="a device is here")
def test_transfer_pinning_needs_a_device():
    with pytest.raises(DeviceError, match="pin_memory: this build"):
        pm.zeros((1,)).pin_memory()


@pytest.mark.parametrize("name", ACCELERATORS)
def test_transfer_pinned_memory_is_used_again_only_after_its_copy(name):
    kept = []
    for value in range(20):
        # The tensor is gone at the end of the line, its memory maybe before the copy.
        kept.append(pm.tensor(np.full(1000, float(value))).pin_memory().to(name, non_blocking=True))
    pm.synchronize(name)
    assert [x.numpy()[[0, -1]].tolist() for x in kept] == [[v, v] for v in map(float, range(20))]


# -- DLPack -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACCELERATORS)
def test_transfer_dlpack_shares_memory_of_the_device(name):
    x = pm.tensor([[1.0, 2.0], [3.0, 4.0]], device=name)
    y = pm.from_dlpack(x.T)
    assert y.device == name
    assert y.data_ptr() == x.data_ptr()
    assert y.strides == (1, 2)
    assert pm.from_dlpack(x.__dlpack__(copy=True)).data_ptr() != x.data_ptr()
    kind = {"simt": 12, "cuda": 2}[name]
    assert x.__dlpack_device__() == (kind, 0)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_transfer_dlpack_to_the_host_is_a_copy(name):
    x = pm.tensor([1.0, 2.0], device=name)
    y = pm.from_dlpack(x.__dlpack__(dl_device=(1, 0), max_version=(1, 0)))
    assert y.device == "cpu"
    assert y.tolist() == [1.0, 2.0]
    for options in ({"dl_device": (1, 0), "copy": False}, {"dl_device": (10, 0)}):
        with pytest.raises(BufferError, match=f"lies on {name}"):
            x.__dlpack__(**options)
    with pytest.raises(ValueError, match="stream 0 is ambiguous"):
        x.__dlpack__(stream=0)
    assert pm.from_dlpack(x.__dlpack__(stream=-1)).tolist() == [1.0, 2.0]
    stream = pm.cuda.Stream(name)
    assert pm.from_dlpack(x.__dlpack__(stream=stream.handle)).tolist() == [1.0, 2.0]
