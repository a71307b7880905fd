"""What the tests of text sources share."""

import os
from pathlib import Path

import pytest

from pymodel.text import Tokenizer


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the project, or in PYMODEL_SHARED_DATA."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("PYMODEL_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat, the dog sat on the log\n"] * 20, vocab_size=300)
