"""Initial values: their distributions, their seeds, and building without them."""

import math

import numpy as np
import pytest
import torch

import pymodel as pm
from pymodel import nn
from pymodel.nn import init

WEIGHT = (300, 200)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda w: init.normal_(w, 1.0, 0.3), lambda w: torch.nn.init.normal_(w, 1.0, 0.3)),
        (lambda w: init.uniform_(w, -1.0, 3.0), lambda w: torch.nn.init.uniform_(w, -1.0, 3.0)),
        (lambda w: init.xavier_uniform_(w, 2.0), lambda w: torch.nn.init.xavier_uniform_(w, 2.0)),
        (init.xavier_normal_, torch.nn.init.xavier_normal_),
        (lambda w: init.kaiming_uniform_(w, 0.5), lambda w: torch.nn.init.kaiming_uniform_(w, 0.5)),
        (
            lambda w: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
            lambda w: torch.nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
        ),
        (
            lambda w: init.kaiming_normal_(w, mode="fan_out", transposed=True),
            lambda w: torch.nn.init.kaiming_normal_(w, mode="fan_in"),
        ),
    ],
)
def test_init_draws_from_the_distribution_of_torch(ours, theirs):
    pm.manual_seed(0)
    torch.manual_seed(0)
    drawn, expected = ours(pm.empty(WEIGHT)).numpy(), theirs(torch.empty(WEIGHT)).numpy()
    spread = expected.std()
    error = 5 * spread / math.sqrt(drawn.size)  # five standard errors of a mean
    assert abs(drawn.mean() - expected.mean()) < 2 * error
    assert abs(drawn.std() - spread) < 2 * error
    quantiles = [0.01, 0.1, 0.5, 0.9, 0.99]
    assert np.allclose(np.quantile(drawn, quantiles), np.quantile(expected, quantiles), atol=0.05 * spread)


def test_init_depends_on_the_seed_alone():
    def draw() -> list[bytes]:
        pm.manual_seed(7)
        model = nn.Sequential(nn.Linear(33, 17), nn.Conv1D(5, 17), nn.Embedding(9, 3))
        return [p.numpy().tobytes() for p in model.parameters()]

    before = pm.get_num_threads()
    try:
        pm.set_num_threads(1)
        first = draw()
        pm.set_num_threads(2)
        assert draw() == first
    finally:
        pm.set_num_threads(before)


def test_init_constants():
    assert (init.ones_(pm.empty((3,), "bfloat16")).numpy() == 1).all()
    assert (init.zeros_(pm.empty((2, 2))).numpy() == 0).all()
    assert (init.constant_(pm.empty((2, 2)), 2.5).numpy() == 2.5).all()


def test_no_init_draws_nothing():
    pm.manual_seed(0)
    before = pm.get_rng_state()
    with init.no_init():
        nn.Linear(3, 4)
        nn.Embedding(3, 4, padding_idx=0)
        kept = init.ones_(pm.zeros((2,)))
    assert pm.get_rng_state() == before
    assert (kept.numpy() == 0).all()
    nn.Linear(3, 4)
    assert pm.get_rng_state() != before


def test_init_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"xavier_uniform_: a weight of at least two dimensions .* \(3,\)"):
        init.xavier_uniform_(pm.empty((3,)))
    with pytest.raises(ValueError, match='mode must be "fan_in" or "fan_out", got \'in\''):
        init.kaiming_uniform_(pm.empty(WEIGHT), mode="in")
    with pytest.raises(ValueError, match="nonlinearity 'gelu' is unknown; expected one of linear, sigmoid"):
        init.calculate_gain("gelu")
    assert init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)
