"""A random GPT-2 on disk, and what either library reads from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hugging_face import saved_model

from pymodel.models import GPT2LMHeadModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt2")
    saved_model(path, n_positions=40)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path):
    import transformers

    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
