"""Which device the results of elementwise operations are on, and operands that lie on two."""

from collections.abc import Callable

import numpy as np
import pytest

import pymodel as pm
from pymodel import ops
from pymodel.errors import DeviceError


def test_elementwise_devices_of_results_are_those_of_the_operands(device: str) -> None:
    x = pm.ones((2, 3), requires_grad=True)
    array = np.full((2, 3), 2.0, np.float32)
    with pm.device("cpu"):  # not where the operands are, unless they are there
        results: list[pm.Tensor] = [x + 1, 1 - x, x * array, ops.div(array, x), x > array]
        results += [ops.where(x > 0, array, x), x.exp(), x.sum(), x.argmax(), x.bfloat16(), ops.gelu(x)]
        results += [x[0], x[:, [2, 0]], x[:, pm.tensor([1])], ops.cat([x, x]), ops.dropout(x)]
        in_place = x.detach().clone()
        in_place += array
        in_place[1:] = [[3.0, 4.0, 5.0]]
        in_place[0, 0] = np.float32(7.0)
        in_place[0, 1] = pm.tensor(8.0)
    for result in [*results, in_place]:
        assert result.device == device
    np.testing.assert_array_equal(in_place.numpy(), [[7, 8, 3], [3, 4, 5]])
    (x * array).sum().backward()
    assert x.grad is not None
    assert x.grad.device == device


def test_elementwise_devices_must_be_one(device: str) -> None:
    if device == "cpu":
        pytest.skip("the CPU is the other device")
    here, there = pm.ones((3,)), pm.ones((3,), device="cpu")
    calls: list[Callable[[], pm.Tensor]] = [
        lambda: here + there,
        lambda: there < here,
        lambda: ops.where(here > 0, here, there),
        lambda: ops.where(there > 0, here, 0.0),
        lambda: here.add_(there),
        lambda: ops.cat([here, there]),
    ]
    for call in calls:
        with pytest.raises(DeviceError, match=r"on one device, got (\w+ and cpu|cpu and \w+); move"):
            call()
    # The process goes on, and a copy is what brings tensors together.
    assert (here + there.to(device)).tolist() == [2.0, 2.0, 2.0]
    assert here.copy_(there * 3).tolist() == [3.0, 3.0, 3.0]
