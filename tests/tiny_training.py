"""A model that trains in milliseconds, and data for it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pymodel as pm
from pymodel.data import LanguageModelBatches
from pymodel.models import GPT2Config, GPT2LMHeadModel

VOCAB_SIZE = 61


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On tensors this small, threads would only wait for each other."""
    threads = pm.get_num_threads()
    pm.set_num_threads(1)
    yield
    pm.set_num_threads(threads)


def tiny_model(seed: int = 0, dropout: float = 0.1, dtype: str = "float32") -> GPT2LMHeadModel:
    pm.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config, dtype)


def tokens(count: int = 2000) -> np.ndarray:
    return np.random.default_rng(5).integers(0, VOCAB_SIZE, count)


def batches(**options: Any) -> LanguageModelBatches:
    return LanguageModelBatches(tokens(), **{"batch_size": 4, "seq_len": 9, "seed": 3, **options})


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: parameter.numpy().copy() for name, parameter in model.state_dict().items()}
