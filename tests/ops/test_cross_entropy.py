import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import EPSILON, TORCH_DTYPES, assert_as_good_as_torch, gradient_of, to_torch

import pymodel as pm
from pymodel.dtypes import numpy_dtype

DTYPES = ["float32", "float16", "bfloat16"]


def make(shape, classes, *, ignored=0.0, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((*shape, classes)) * scale
    targets = rng.integers(0, classes, shape)
    return logits, np.where(rng.random(shape) < ignored, -100, targets)


def check(logits, targets, dtype="float32", **options):
    """Loss and gradient against torch.

    Our loss is float32 whatever the logits are: it is held to torch's error on the same values in
    float32, and the gradient to torch's in the dtype of the logits.
    """
    x = pm.tensor(logits, dtype=dtype, requires_grad=True)
    loss = pm.ops.cross_entropy(x, pm.tensor(targets), **options)
    assert loss.dtype == "float32"
    incoming = np.random.default_rng(1).standard_normal(loss.shape).astype(np.float32)
    loss.backward(pm.tensor(incoming))
    assert gradient_of(x).dtype == dtype
    flat_targets = torch.tensor(targets.astype(np.int64)).reshape(-1)
    results = {}
    for torch_dtype in (torch.float32, TORCH_DTYPES[dtype], torch.float64):
        leaf = to_torch(x.numpy(), torch_dtype).requires_grad_()
        out = F.cross_entropy(leaf.reshape(-1, logits.shape[-1]), flat_targets, **options).reshape(loss.shape)
        out.backward(to_torch(incoming, torch_dtype))
        results[torch_dtype] = (out, leaf.grad)
    exact = results[torch.float64]
    assert_as_good_as_torch(loss, results[torch.float32][0], exact[0], "float32", "loss")
    assert_as_good_as_torch(x.grad, results[TORCH_DTYPES[dtype]][1], exact[1], dtype, "gradient")


# (shape, classes): rows shorter than a vector, two classes, one past a vector, one past a block of the
# online sum, a vocabulary of odd size, leading dimensions of every number.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "classes"),
    [((), 5), ((1,), 1), ((6,), 2), ((33,), 17), ((2, 3), 1025), ((2, 2), 50257), ((2, 2, 2), 10)],
)
def test_cross_entropy_matches_torch(shape, classes, dtype):
    logits, targets = make(shape, classes)
    check(logits, targets, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_cross_entropy_options_combine(dtype, reduction, label_smoothing, ignored):
    logits, targets = make((4, 7), 33, ignored=ignored)
    check(logits, targets, dtype, reduction=reduction, label_smoothing=label_smoothing)


@pytest.mark.parametrize("ignore_index", [0, 3, -1, 2**40])
def test_cross_entropy_takes_any_ignore_index(ignore_index):
    logits, targets = make((40,), 5)
    targets[::6] = ignore_index
    check(logits, targets, ignore_index=ignore_index)
    check(logits, targets, ignore_index=ignore_index, reduction="none", label_smoothing=0.2)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_cross_entropy_takes_any_integer_dtype(kind):
    logits, targets = make((12,), 9)
    check(logits, targets.astype(kind))


@pytest.mark.parametrize("offset", [1e3, -1e3])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_cross_entropy_of_large_logits_does_not_cancel(offset, label_smoothing):
    logits, targets = make((20,), 300)
    check(logits + offset, targets, label_smoothing=label_smoothing)


def test_cross_entropy_of_certain_predictions():
    logits, targets = make((20,), 50, scale=1.0)
    logits[np.arange(20), targets] += 30
    check(logits, targets)
    logits[np.arange(20), targets] -= 60
    check(logits, targets)


def test_cross_entropy_takes_any_strides():
    logits, targets = make((6, 8), 20)
    logits = logits.astype(np.float32)
    contiguous = pm.tensor(logits, requires_grad=True)
    pm.ops.cross_entropy(contiguous, pm.tensor(targets)).backward()
    strided_targets = np.zeros((6, 16), np.int64)
    strided_targets[:, ::2] = targets
    wide, tall = np.zeros((6, 8, 23), np.float32), np.asfortranarray(logits).T
    wide[..., 2:22] = logits
    for view in (
        pm.tensor(wide)[..., 2:22],
        pm.tensor(tall.copy()).permute(2, 1, 0),
        pm.tensor(np.repeat(logits, 2, axis=-1))[..., ::2],
    ):
        assert not view.is_contiguous()
        before = view.numpy().copy()
        x = view.requires_grad_()
        pm.ops.cross_entropy(x, pm.tensor(strided_targets)[:, ::2]).backward()
        np.testing.assert_array_equal(gradient_of(x).numpy(), gradient_of(contiguous).numpy())
        np.testing.assert_array_equal(x.numpy(), before)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_without_any_target_that_counts_is_zero(reduction):
    logits, targets = make((3, 4), 7)
    x = pm.tensor(np.where(logits > 0, np.nan, logits), dtype="float32", requires_grad=True)
    loss = pm.ops.cross_entropy(x, pm.tensor(np.full_like(targets, -100)), reduction=reduction)
    assert (loss.numpy() == 0).all()
    loss.backward(pm.ones(loss.shape))
    assert (gradient_of(x).numpy() == 0).all()


@pytest.mark.parametrize(("shape", "classes"), [((0,), 5), ((0, 3), 5), ((2, 0), 5), ((0,), 0)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_nothing_is_zero(shape, classes, reduction):
    x = pm.empty((*shape, classes)).requires_grad_()
    loss = pm.ops.cross_entropy(x, pm.empty(shape, "int64"), reduction=reduction)
    assert loss.shape == (shape if reduction == "none" else ())
    assert loss.numpy().sum() == 0
    loss.backward(pm.ones(loss.shape))
    assert gradient_of(x).shape == x.shape


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_of_a_masked_row_is_infinite_with_zero_gradient(label_smoothing):
    logits = np.random.default_rng(2).standard_normal((3, 19)).astype(np.float32)
    logits[1] = -np.inf
    x = pm.tensor(logits, requires_grad=True)
    loss = pm.ops.cross_entropy(x, pm.tensor([1, 2, 3]), reduction="none", label_smoothing=label_smoothing)
    loss.backward(pm.ones((3,)))
    assert np.isposinf(loss.numpy()).tolist() == [False, True, False]
    assert np.isfinite(gradient_of(x).numpy()).all()
    assert (gradient_of(x).numpy()[1] == 0).all()


def test_cross_entropy_ignores_masked_classes_that_are_not_the_target():
    logits, targets = make((5,), 40)
    targets[:] = np.arange(5)
    logits[:, 20:] = -np.inf
    check(logits, targets, reduction="none")


def test_cross_entropy_smoothed_over_masked_classes_is_infinite_as_in_torch():
    logits, targets = make((3,), 3000)  # more than one block of a row's sums
    logits[1, 5:40] = -np.inf
    targets[:] = 2
    x, reference = pm.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    loss = pm.ops.cross_entropy(x, pm.tensor(targets), label_smoothing=0.1, reduction="none")
    loss.backward(pm.ones((3,)))
    wanted = F.cross_entropy(reference, torch.tensor(targets), label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(loss.numpy(), wanted.detach().numpy(), rtol=1e-5)
    assert np.isposinf(loss.numpy()[1])
    assert np.isfinite(gradient_of(x).numpy()).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cross_entropy_bits_do_not_depend_on_threads(reduction):
    for shape, classes in (((37,), 50257), ((4000,), 11)):
        logits, targets = make(shape, classes, ignored=0.1)
        threads, results = pm.get_num_threads(), []
        try:
            for count in (1, 2, 3):
                pm.set_num_threads(count)
                x = pm.tensor(logits, dtype="float32", requires_grad=True)
                loss = pm.ops.cross_entropy(x, pm.tensor(targets), reduction=reduction)
                loss.backward(pm.ones(loss.shape))
                results.append(loss.numpy().tobytes() + gradient_of(x).numpy().tobytes())
        finally:
            pm.set_num_threads(threads)
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_may_overwrite_logits_that_an_operation_made(dtype):
    features, targets = make((5,), 12)
    weights = np.random.default_rng(3).standard_normal((1001, 12))
    gradients = []
    for overwrite in (False, True):
        x, w = (pm.tensor(values, dtype=dtype, requires_grad=True) for values in (features, weights))
        logits = pm.ops.linear(x, w)
        kept = logits.numpy().copy()
        loss = pm.ops.cross_entropy(
            logits, pm.tensor(targets), label_smoothing=0.1, overwrite_logits=overwrite
        )
        loss.backward()
        assert (kept.tobytes() == logits.numpy().tobytes()) is not overwrite
        gradients.append((gradient_of(x).numpy(), gradient_of(w).numpy()))
    for plain, overwritten in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, overwritten)


def test_cross_entropy_names_the_target_that_is_no_class():
    logits = pm.zeros((2, 6, 10))
    targets = np.zeros((2, 6), np.int64)
    targets[1, 4] = 10
    with pytest.raises(
        ValueError, match=r"targets\[1, 4\] is 10, but the 10 classes .* ignore_index \(-100\)"
    ):
        pm.ops.cross_entropy(logits, pm.tensor(targets))
    targets[1, 3] = -1
    with pytest.raises(ValueError, match=r"targets\[1, 3\] is -1,"):
        pm.ops.cross_entropy(logits, pm.tensor(targets))
    with pytest.raises(ValueError, match=r"targets is 5,"):
        pm.ops.cross_entropy(pm.zeros((5,)), pm.tensor(5))


@pytest.mark.parametrize(
    ("error", "match", "arguments", "options"),
    [
        (ValueError, r"targets must have shape \(2, 3\) .* got \(6,\)", ((2, 3, 4), (6,)), {}),
        (ValueError, r"targets must have shape .* last dimension is the classes", ((2, 3, 4), (2, 4)), {}),
        (ValueError, "at least one dimension", ((), ()), {}),
        (
            ValueError,
            "reduction 'avg' is unknown; expected one of mean, sum, none",
            ((2, 3), (2,)),
            {"reduction": "avg"},
        ),
        (
            ValueError,
            "label_smoothing must lie between 0 and 1, got 1.5",
            ((2, 3), (2,)),
            {"label_smoothing": 1.5},
        ),
        (ValueError, "label_smoothing must lie", ((2, 3), (2,)), {"label_smoothing": float("nan")}),
        (
            ValueError,
            "overwrite_logits is for logits that an operation made",
            ((2, 3), (2,)),
            {"overwrite_logits": True},
        ),
    ],
)
def test_cross_entropy_names_what_is_wrong(error, match, arguments, options):
    logits, targets = pm.zeros(arguments[0], requires_grad=True), pm.zeros(arguments[1], "int64")
    with pytest.raises(error, match=f"cross_entropy: .*{match}"):
        pm.ops.cross_entropy(logits, targets, **options)


def test_cross_entropy_names_dtypes_it_does_not_take():
    with pytest.raises(TypeError, match="cross_entropy: logits must be float32 or"):
        pm.ops.cross_entropy(pm.zeros((2, 3), "int64"), pm.zeros((2,), "int64"))
    with pytest.raises(
        TypeError, match="cross_entropy: targets must be int64 or int32 or uint8, got float32"
    ):
        pm.ops.cross_entropy(pm.zeros((2, 3)), pm.zeros((2,)))


def test_cross_entropy_loss_of_low_precision_logits_keeps_float32_digits():
    logits, targets = make((64,), 100)
    rounded = logits.astype(numpy_dtype("bfloat16"))
    loss = pm.ops.cross_entropy(pm.tensor(rounded), pm.tensor(targets)).item()
    exact = F.cross_entropy(torch.tensor(rounded.astype(np.float64)), torch.tensor(targets)).item()
    assert abs(loss - exact) < 4 * EPSILON["float32"] * abs(exact)
