"""Naming devices, the default one, and tensors that meet on different ones."""

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from devices import ACCELERATORS, EVERYWHERE
from reference import gradient_of

import pymodel as pm
from pymodel import _core, nn
from pymodel.errors import DeviceError

# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("cpu", "cpu"), ("cpu:0", "cpu")])
def test_device_has_a_type_and_an_index(name, kind):
    device = pm.device(name)
    assert (str(device), device.type, device.index) == (kind, kind, 0)
    assert repr(device) == "device('cpu')"
    assert device == "cpu:0"
    assert device != "cuda"
    assert hash(device) == hash("cpu")
    assert pm.device(name) is device


@pytest.mark.parametrize(
    "name", ["gpu", "", "cpu:", "cpu:x", "cpu:-1", "cuda:", "cuda:1x", "cuda:12345", "CPU"]
)
def test_device_unknown_names_are_errors(name):
    with pytest.raises(DeviceError, match="is unknown; expected 'cpu', 'cuda' or 'cuda:N'"):
        pm.device(name)


def test_device_numbers_that_are_not_there_are_errors():
    with pytest.raises(DeviceError, match="'cpu:1': there is only one cpu device, numbered from 0"):
        pm.device("cpu:1")


@pytest.mark.skipif(pm.cuda.is_available(), reason="a GPU is here")
def test_device_says_why_there_is_no_gpu():
    reason = pm.cuda.why_unavailable()
    assert reason
    assert pm.cuda.device_count() == 0
    for use in (
        lambda: pm.device("cuda"),
        lambda: pm.zeros((1,), device="cuda"),
        lambda: pm.zeros((1,)).to("cuda:0"),
        lambda: pm.zeros((1,)).cuda(),
        lambda: nn.Linear(2, 2).to("cuda"),
        lambda: pm.set_default_device("cuda"),
        lambda: pm.cuda.Stream(),
        lambda: pm.cuda.synchronize(),
    ):
        with pytest.raises(DeviceError) as caught:
            use()
        assert reason in str(caught.value)
    assert pm.zeros((1,)).tolist() == [0.0], "the process goes on"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_of_the_machine_is_described(name):
    assert pm.device(f"{name}:0") is pm.device(name)
    assert pm.device(name) == f"{name}:0"
    assert pm.cuda.get_device_name(name)
    assert pm.cuda.get_device_capability(name) >= (8, 0)
    count = _core.device_count(name)
    with pytest.raises(DeviceError, match=f"'{name}:{count}': there is only"):
        pm.device(f"{name}:{count}")


def test_device_functions_of_gpus_reject_the_cpu():
    for use in (pm.cuda.get_device_name, pm.cuda.current_stream, pm.cuda.Event, pm.cuda.Graph):
        with pytest.raises(DeviceError, match="expected a device of type cuda, got 'cpu'"):
            use("cpu")


# -- the default device -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERYWHERE)
def test_device_default_is_where_tensors_go(name):
    with pm.device(name) as device:
        assert pm.get_default_device() is device
        made: list[Any] = [
            pm.tensor([1.0, 2.0]),
            pm.tensor(np.ones(2)),
            pm.empty((2,)),
            pm.arange(3),
            nn.Linear(2, 3).weight,
            nn.LayerNorm(3).weight,
            nn.Parameter([1.0]),
            pm.tensor([1.0], device=name),
        ]
        assert [x.device for x in made] == [device] * len(made)
        assert pm.empty((1,), device="cpu").device == "cpu"
        assert pm.from_numpy(np.zeros(1)[:0].astype(np.float32)).device == "cpu", "it shares memory"
    assert pm.get_default_device() == "cpu"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_default_nests_and_survives_errors(name):
    device = pm.device(name)
    with device, pm.device("cpu"), device:
        assert pm.get_default_device() is device
    with pytest.raises(ZeroDivisionError), device:
        raise ZeroDivisionError
    assert pm.get_default_device() == "cpu"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_default_is_set_for_this_thread_alone(name):
    seen = []
    pm.set_default_device(name)
    try:
        thread = threading.Thread(target=lambda: seen.append(pm.empty((1,)).device))
        thread.start()
        thread.join()
        assert pm.empty((1,)).device == name
    finally:
        pm.set_default_device("cpu")
    assert seen == ["cpu"]


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_tensors_stay_where_they_are_unless_told(name):
    there = pm.tensor([1.0], device=name)
    assert pm.tensor(there).device == name
    with pm.device(name):
        assert pm.tensor(pm.tensor([1.0], device="cpu")).device == "cpu"
    assert pm.tensor(there, device="cpu").tolist() == [1.0]


# -- a tensor on a device ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_tensor_hands_out_its_values(name):
    x = pm.tensor([[1.5, 2.0], [3.0, 4.0]], device=name)
    array = x.numpy()
    array[0, 0] = 7
    assert x.tolist() == [[1.5, 2.0], [3.0, 4.0]], "numpy() is a copy"
    assert np.asarray(x).tolist() == x.tolist()
    with pytest.raises(ValueError, match="without a copy"):
        x.__array__(copy=False)
    assert x[0, 0].item() == float(x[0, 0]) == 1.5
    assert bool(pm.tensor([1], device=name))
    assert f"device={x.device}" in repr(x)
    assert "1.5" in repr(x)
    assert f"{x[0, 0]:.2f}" == "1.50"
    assert not x.is_pinned


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool"])
def test_device_tensor_is_copied_and_pickled_with_its_device(name, dtype):
    x = pm.tensor([[1, 0], [0, 1]], dtype=dtype, device=name)
    for twin in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x))):
        assert twin.device is x.device
        assert twin.dtype == dtype
        assert twin.data_ptr() != x.data_ptr()
        np.testing.assert_array_equal(twin.numpy(), x.numpy())
    parameter = nn.Parameter(pm.tensor([1.0], device=name))
    twin = copy.deepcopy(parameter)
    assert isinstance(twin, nn.Parameter)
    assert twin.requires_grad


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_operands_on_different_devices_are_named(name):
    here, there = pm.tensor([1.0, 2.0]), pm.tensor([1.0, 2.0], device=name)
    with pytest.raises(DeviceError, match=rf"add: .*got cpu and {name}; move them with \.to"):
        here + there
    with pytest.raises(DeviceError, match=rf"got {name} and cpu"):
        there * here
    with pytest.raises(DeviceError, match="mean: all tensors must be on one device"):
        _core.reduce("mean", there._array, here._array)
    there.requires_grad_()
    with pytest.raises(DeviceError, match=rf"backward: the tensor lies on {name} and the gradient on cpu"):
        (there * 2.0).backward(here)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_arrays_follow_the_tensor_they_meet(name):
    x = pm.tensor([1.0, 2.0], device=name)
    assert (x + np.array([1.0, 1.0], np.float32)).tolist() == [2.0, 3.0]
    assert x[np.array([1, 0, 1])].tolist() == [2.0, 1.0, 2.0]
    assert x[pm.tensor([1], device=name)].tolist() == [2.0]
    x[0] = np.float32(5)
    x[1:] = [7.0]
    assert x.tolist() == [5.0, 7.0]


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_has_no_cuda_array_interface_but_a_gpu(name):
    x = pm.tensor([[1.0, 2.0]], device=name)
    if name != "cuda":
        with pytest.raises(AttributeError, match=f"lies on {name}"):
            x.__cuda_array_interface__  # noqa: B018
        return
    interface = x.T.__cuda_array_interface__
    assert interface["version"] == 3
    assert interface["typestr"] == "<f4"
    assert interface["shape"] == (2, 1)
    assert interface["data"] == (x.data_ptr(), False)
    assert interface["stream"] == 1
    assert not hasattr(x.to("bfloat16"), "__cuda_array_interface__")


def test_device_of_the_host_has_no_cuda_array_interface():
    assert not hasattr(pm.zeros((1,)), "__cuda_array_interface__")


@pytest.mark.parametrize("name", ACCELERATORS)
def test_device_module_moves_with_its_gradients(name):
    layer = nn.Linear(3, 2)
    weight = layer.weight
    layer(pm.ones((1, 3))).sum().backward()
    before = {n: (p.numpy().copy(), gradient_of(p).numpy().copy()) for n, p in layer.named_parameters()}
    layer.to(name)
    assert layer.weight is weight
    for n, p in layer.named_parameters():
        assert p.device == name
        assert gradient_of(p).device == name
        np.testing.assert_array_equal(p.numpy(), before[n][0])
        np.testing.assert_array_equal(gradient_of(p).numpy(), before[n][1])
    twin = nn.Linear(3, 2)
    twin.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(twin.weight.numpy(), layer.weight.numpy())
    layer.to(device="cpu", dtype="bfloat16")
    assert (layer.weight.device, layer.weight.dtype) == ("cpu", "bfloat16")


def test_device_training_dtype_follows_the_hardware() -> None:
    wanted = "bfloat16" if _core.isa().endswith("bf16") else "float32"
    assert pm.training_dtype() == pm.training_dtype("cpu") == wanted
    with pytest.raises(DeviceError):
        pm.training_dtype("tpu")
