"""What models ask of the token ids they are given."""

import numpy as np
import pytest

from pymodel.models import GPT2Config, GPT2LMHeadModel


def test_ids_that_are_their_own_labels_are_checked_and_left_as_they_are():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=23, n_embd=24, n_layer=1, n_head=3)).eval()
    ids = np.random.default_rng(0).integers(0, 61, (2, 9))
    before = ids.copy()
    assert model(ids, labels=ids).loss.item() == model(ids, labels=ids.copy()).loss.item()
    assert np.array_equal(ids, before)
    ids[1, 2] = -100  # a label, but no token
    with pytest.raises(ValueError, match="input_ids must lie between 0 and 60, got -100"):
        model(ids, labels=ids)
