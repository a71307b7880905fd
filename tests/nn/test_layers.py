"""Layers against those of torch and transformers with the same weights."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from reference import check_op

import pymodel as pm
from pymodel import nn

DTYPES = ["float32", "bfloat16"]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def check_layer(make, theirs, inputs, dtype: str) -> None:
    """`make(dtype)` gives the module; the inputs are x and then its parameters in their order."""
    check_op(lambda x, *weights: forward(make(dtype), x, weights), theirs, inputs, dtype)


def forward(module: nn.Module, x: pm.Tensor, weights) -> pm.Tensor:
    # The leaves of the test themselves stand in for the parameters.
    for (name, _), weight in zip(list(module.named_parameters()), weights, strict=True):
        object.__setattr__(module, name, weight)
    return module(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_linear_layer(dtype: str, activation: str | None):
    def theirs(x, weight, bias):
        y = torch.nn.functional.linear(x, weight, bias)
        return torch.nn.functional.gelu(y) if activation else y

    check_layer(
        lambda dtype: nn.Linear(5, 7, activation=activation, dtype=dtype),
        theirs,
        [random(2, 3, 5), random(7, 5), random(7)],
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_conv1d_layer_follows_transformers(dtype: str):
    def theirs(x, weight, bias):
        layer = transformers.pytorch_utils.Conv1D(7, 5)
        assert layer.weight.shape == weight.shape
        del layer.weight, layer.bias
        layer.weight, layer.bias = weight, bias
        return layer(x)

    check_layer(
        lambda dtype: nn.Conv1D(7, 5, dtype=dtype), theirs, [random(2, 3, 5), random(5, 7), random(7)], dtype
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_layer(dtype: str, bias: bool):
    def theirs(x, weight, bias=None):
        return torch.nn.functional.layer_norm(x, (6,), weight, bias, 1e-3)

    inputs = [random(2, 3, 6), random(6), *([random(6)] if bias else [])]
    check_layer(lambda dtype: nn.LayerNorm(6, 1e-3, bias=bias, dtype=dtype), theirs, inputs, dtype)


def test_layer_norm_layer_names_a_wrong_width():
    plain = nn.LayerNorm(4, elementwise_affine=False)
    assert list(plain.parameters()) == []
    assert np.allclose(plain(pm.tensor(random(2, 4))).numpy().mean(-1), 0, atol=1e-6)
    with pytest.raises(ValueError, match=r"LayerNorm: x must have a last dimension of 4, got shape \(2, 5\)"):
        plain(pm.zeros((2, 5)))


def test_residuals_are_added():
    x, residual = pm.tensor(random(2, 5)), pm.tensor(random(2, 7))
    for layer in (nn.Linear(5, 7), nn.Conv1D(7, 5)):
        assert np.allclose(layer(x, residual).numpy(), layer(x).numpy() + residual.numpy(), atol=1e-5)
    y, total = nn.LayerNorm(5)(x, x)
    assert np.allclose(total.numpy(), 2 * x.numpy())
    assert y.shape == (2, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding_layer(dtype: str, padding: int | None):
    indices = np.array([[0, 2, 4], [4, 4, 2]])

    def ours(weight):
        layer = nn.Embedding(5, 3, padding, dtype)
        object.__setattr__(layer, "weight", weight)
        return layer(pm.tensor(indices))

    check_op(
        ours,
        lambda weight: torch.nn.functional.embedding(torch.tensor(indices), weight, padding),
        [random(5, 3)],
        dtype,
    )


def test_embedding_layer_zeroes_the_padding_vector():
    layer = nn.Embedding(5, 3, padding_idx=-2)
    assert not layer.weight.numpy()[3].any()
    assert layer.weight.numpy()[2].all()
    with pytest.raises(ValueError, match="padding_idx must be an index of the 5 vectors, got 5"):
        nn.Embedding(5, 3, padding_idx=5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.GELU(), torch.nn.GELU()),
        (nn.GELU("tanh"), torch.nn.GELU("tanh")),
        (nn.ReLU(), torch.nn.ReLU()),
        (nn.SiLU(), torch.nn.SiLU()),
        (nn.Tanh(), torch.nn.Tanh()),
        (nn.Sigmoid(), torch.nn.Sigmoid()),
    ],
    ids=repr,
)
def test_activation_layers(ours: nn.Module, theirs: torch.nn.Module):
    check_op(ours, theirs, [random(3, 17)], "float32")


def test_gelu_layer_names_an_unknown_approximation():
    with pytest.raises(ValueError, match='approximate must be "none" or "tanh", got \'erf\''):
        nn.GELU("erf")


def test_dropout_layer_acts_in_training_only():
    layer = nn.Dropout(0.25)
    x = pm.ones((1000,))
    pm.manual_seed(3)
    kept = layer(x).numpy()
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert 0.7 < (kept > 0).mean() < 0.8
    assert np.array_equal(layer.eval()(x).numpy(), x.numpy())
    with pytest.raises(ValueError, match=r"p must lie between 0 and 1, got 1\.5"):
        nn.Dropout(1.5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_loss_layer(reduction: str):
    targets = np.array([1, -1, 4, 0])
    options: dict[str, Any] = {"ignore_index": -1, "label_smoothing": 0.1, "reduction": reduction}
    check_op(
        lambda x: nn.CrossEntropyLoss(**options)(x, pm.tensor(targets)),
        lambda x: torch.nn.CrossEntropyLoss(**options)(x, torch.tensor(targets)),
        [random(4, 5)],
        "float32",
    )


def test_sequential_applies_modules_in_order():
    pm.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    reference = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    assert list(model.state_dict()) == list(reference.state_dict())
    reference.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    x = random(3, 4).astype(np.float32)
    expected = reference(torch.tensor(x)).detach().numpy()
    assert np.allclose(model(pm.tensor(x)).numpy(), expected, atol=1e-6)
    assert len(nn.Sequential([nn.ReLU(), nn.Tanh()])[1:]) == 1
