"""What the tests of text sources share."""

import pytest

from pymodel.text import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat, the dog sat on the log\n"] * 20, vocab_size=300)
