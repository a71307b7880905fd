"""Cross-entropy where device kernels take other paths: odd places, long rows, targets out of range."""

import numpy as np
import pytest
from memory import shifted, spaced
from orders import run_under_orders
from reference import gradient_of

import pymodel as pm
from pymodel import _core


def draw(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([rows, classes])
    logits = (3 * rng.standard_normal((rows, classes))).astype(np.float32)
    return logits, np.where(rng.random(rows) < 0.2, -100, rng.integers(0, classes, rows))


def losses_and_gradient(logits: pm.Tensor, targets: pm.Tensor, **options) -> list[np.ndarray]:
    x = logits.requires_grad_()
    losses = pm.ops.cross_entropy(x, targets, reduction="none", **options)
    total = pm.ops.cross_entropy(x, targets, **options)
    (losses.sum() + total).backward()
    return [losses.numpy(), total.numpy(), gradient_of(x).numpy()]


# One pack of a row and less, the last row of a warp and the next, and one of many blocks' length.
@pytest.mark.parametrize("classes", [3, 8, 1024, 1027, 20001])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cross_entropy_has_the_same_bits_wherever_rows_begin(classes, label_smoothing, dtype):
    logits, targets = draw(5, classes)
    logits = pm.tensor(logits, dtype=dtype).numpy()
    expected = losses_and_gradient(pm.tensor(logits), pm.tensor(targets), label_smoothing=label_smoothing)
    for place in (shifted, lambda x: shifted(x, by=3), spaced):
        results = losses_and_gradient(place(logits), spaced(targets), label_smoothing=label_smoothing)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, wanted)


# A row that is no vector, one of several blocks, and one that the first-level cache does not hold.
@pytest.mark.parametrize(("rows", "classes"), [(7, 5), (6, 3001), (20, 20001)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("in_place", [False, True])
def test_cross_entropy_gradient_of_the_forward_pass_is_that_of_backward(rows, classes, dtype, in_place):
    values, classes_wanted = draw(rows, classes)
    values[0] = -np.inf  # a row without gradient
    x, targets = pm.tensor(values, dtype=dtype), pm.tensor(classes_wanted)
    losses = pm.ops.cross_entropy(x, targets, reduction="none", label_smoothing=0.1)
    x.requires_grad_()
    loss = pm.ops.cross_entropy(x, targets, label_smoothing=0.1)
    loss.backward(pm.tensor(np.float32(0.5)))

    own, statistics, scale, total = (pm.empty(shape)._array for shape in ((rows,), (rows, 2), (), ()))
    incoming = pm.tensor(np.float32(0.5))._array.expand([rows])
    logits = x.detach().clone()
    dlogits = logits if in_place else pm.empty(x.shape, dtype)
    options = (-100, 0.1, True, incoming, dlogits._array)
    _core.cross_entropy_forward(logits._array, targets._array, own, statistics, scale, total, *options)
    np.testing.assert_array_equal(pm.Tensor(own).numpy(), losses.numpy())
    assert pm.Tensor(total).item() == loss.item()
    rounding = 2e-6 if dtype == "float32" else 2**-7  # one step of the type
    result, wanted = (np.asarray(g.numpy(), np.float32) for g in (dlogits, gradient_of(x)))
    np.testing.assert_allclose(result, wanted, rtol=rounding, atol=1e-9)


@pytest.mark.parametrize(("rows", "classes"), [(9, 30), (3, 1500), (3000, 2)])
def test_cross_entropy_has_the_same_bits_in_every_order_of_threads(rows, classes, device):
    if device != "simt":
        pytest.skip("the order of threads is set on the emulator only")
    logits, targets = draw(rows, classes)

    def compute() -> list[np.ndarray]:
        leaf = pm.tensor(logits, dtype="float16")
        return losses_and_gradient(leaf, pm.tensor(targets), label_smoothing=0.1)

    run_under_orders(compute, seeds=1 if rows > 1000 else 2)


def test_cross_entropy_overwrites_logits_in_place():
    logits, targets = draw(6, 1003)
    gradients = []
    for overwrite in (False, True):
        x = pm.tensor(logits, requires_grad=True)
        scores = x * 2.0
        pm.ops.cross_entropy(scores, pm.tensor(targets), overwrite_logits=overwrite).backward()
        gradients.append(gradient_of(x).numpy())
    np.testing.assert_array_equal(gradients[0], gradients[1])
