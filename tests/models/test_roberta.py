"""What is RoBERTa's and DistilBERT's own: positions around padding, and tables that are not drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_models import BATCH, MASK, SEQUENCE, trio
from reference import assert_as_good_as_torch

from pymodel.errors import ConfigError
from pymodel.models import DistilBertConfig, DistilBertModel, RobertaConfig, RobertaForMaskedLM, RobertaModel


def test_roberta_counts_positions_around_padding_tokens(tmp_path: Path):
    theirs, exact, ours = trio(tmp_path, "roberta", "RobertaModel")
    ids = np.random.default_rng(1).integers(2, 61, (BATCH, SEQUENCE))
    ids[MASK == 0] = 1
    ids[0, 3] = 1  # the padding token within a text has the position of padding too
    for mask in (MASK, None):
        with torch.no_grad():
            arguments = {"attention_mask": None if mask is None else torch.from_numpy(mask)}
            expected = [m(torch.from_numpy(ids), **arguments).last_hidden_state for m in (theirs, exact)]
        found = ours(ids, attention_mask=mask).last_hidden_state
        assert_as_good_as_torch(found, expected[0], expected[1], "float32")
    assert ours.default_positions(ids)[0, :6].tolist() == [2, 3, 4, 1, 5, 6]


def test_roberta_longest_text_leaves_room_for_padding():
    config = RobertaConfig(
        vocab_size=11, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=12,
    )  # fmt: skip
    model = RobertaModel(config)
    assert model([[2] * 10]).last_hidden_state.shape == (1, 10, 8)
    with pytest.raises(ValueError, match=r"texts may have 10 tokens, got 11: .* 12 rows"):
        model([[2] * 11])
    with pytest.raises(ConfigError, match="pad_token_id must lie below max_position_embeddings, 12"):
        RobertaConfig(max_position_embeddings=12, pad_token_id=12)
    with pytest.raises(ConfigError, match="pad_token_id must be int, got None"):
        RobertaConfig(pad_token_id=None)


def test_roberta_initial_values_of_padding_are_zeros():
    config = RobertaConfig(
        vocab_size=11, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8
    )
    embeddings = RobertaForMaskedLM(config).roberta.embeddings
    for table in (embeddings.word_embeddings, embeddings.position_embeddings):
        assert not table.weight.numpy()[1].any()
        assert table.weight.numpy()[2].any()


def test_distilbert_positions_begin_as_sinusoids_where_configured():
    config = DistilBertConfig(
        vocab_size=11, dim=6, n_heads=2, n_layers=1, hidden_dim=8, sinusoidal_pos_embds=True
    )
    table = DistilBertModel(config).embeddings.position_embeddings.weight.numpy()
    angle = 3 / 10000 ** (2 / 6)
    expected = [np.sin(3), np.cos(3), np.sin(angle), np.cos(angle)]
    np.testing.assert_allclose(table[3, :4], expected, rtol=1e-6)


def test_distilbert_configuration_errors_are_named():
    with pytest.raises(ConfigError, match="n_heads must divide dim, got dim 8 and n_heads 3"):
        DistilBertConfig(dim=8, n_heads=3)
    with pytest.raises(ConfigError, match="activation 'square' is not built in"):
        DistilBertConfig(activation="square")
    with pytest.raises(ConfigError, match="initializer_range must not be below 0"):
        DistilBertConfig(initializer_range=-1.0)
    assert DistilBertConfig(hidden_size=24, num_attention_heads=3).dim == 24
