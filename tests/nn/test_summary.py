"""The table that `Module.summary` prints."""

from __future__ import annotations

import pytest

from pymodel import nn
from pymodel.models import GPT2Config, GPT2LMHeadModel
from pymodel.nn.summary import summary_text


def counts(text: str) -> int:
    rows = text.splitlines()[2:]
    table = rows[: next(i for i, row in enumerate(rows) if row.startswith("---"))]
    return sum(
        int(row.split()[-1].replace(",", "")) for row in table if row.split()[-1].replace(",", "").isdigit()
    )


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 3])
def test_summary_counts_every_parameter_once_at_every_depth(depth: int | None):
    model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=12, n_head=2, vocab_size=17, n_positions=9))
    text = summary_text(model, depth)
    assert counts(text) == model.num_parameters()
    assert f"parameters: {model.num_parameters():,} ({model.num_parameters():,} trained, 0 frozen)" in text


def test_summary_joins_equal_neighbours_and_names_shared_parameters(capsys: pytest.CaptureFixture[str]):
    model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=12, n_head=2, vocab_size=17, n_positions=9))
    model.transformer.wpe.requires_grad_(False)
    model.summary()
    text = capsys.readouterr().out
    assert "0-2 (GPT2Block)" in text
    assert text.count("c_attn (Conv1D)") == 1
    assert "lm_head (Linear)" in text
    assert "weight 17x12 shared" in text
    assert f"{9 * 12:,} frozen" in text
    assert "memory of the parameters: 24 KB" in text


def test_summary_keeps_different_neighbours_apart():
    text = summary_text(nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2), nn.Dropout(0.1)))
    assert "0-1 (Linear)" in text
    assert "2 (Linear)" in text
    assert "weight 4x3; bias 4" in text
    assert counts(text) == 16 * 2 + 10


def test_summary_shows_equal_parts_that_have_names_of_their_own():
    pair = nn.Module()
    pair.query, pair.key = nn.Linear(3, 4), nn.Linear(3, 4)
    text = summary_text(pair)
    assert "query (Linear)" in text
    assert "key (Linear)" in text
