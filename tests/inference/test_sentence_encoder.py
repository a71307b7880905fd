"""Sentence vectors, by the real MiniLM against transformers, and by small models of every family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minilm
import numpy as np
import pytest
import torch
import transformers
from text_models import save_text_model

from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.inference import SentenceEncoder
from pymodel.models import AutoModelForMaskedLM
from pymodel.text import AutoTokenizer


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the rows of two matrices."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a.astype(np.float64) * b).sum(axis=1) / norms


def reference_vectors(folder: Path, texts: list[Any], max_length: int, pooling: str = "mean") -> np.ndarray:
    """The mean of the tokens, normalised, as the model's card computes it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = states[:, 0] if pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
    return np.asarray(torch.nn.functional.normalize(pooled).numpy())


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(minilm.folder())


def test_sentence_encoder_gives_the_vectors_of_minilm(encoder: SentenceEncoder):
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("mean", True, 256)
    expected = reference_vectors(minilm.folder(), minilm.SENTENCES, 256)
    found = encoder.encode(minilm.SENTENCES, batch_size=4)
    assert found.shape == expected.shape == (len(minilm.SENTENCES), 384)
    assert found.dtype == np.float32
    assert (1.0 - cosines(found, expected)).max() < 1e-5
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-6)


def test_sentence_encoder_ranks_pairs_as_transformers_does(encoder: SentenceEncoder):
    first, second = (list(side) for side in zip(*minilm.PAIRS, strict=True))
    ours = np.diag(encoder.similarity(first, second))
    theirs = cosines(*(reference_vectors(minilm.folder(), side, 256) for side in (first, second)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.argsort(-ours).tolist() == np.argsort(-theirs).tolist()
    assert ours[:2].min() > 0.4 > ours[2:].max()  # what means the same, and what does not


def test_sentence_encoder_result_does_not_depend_on_the_batch(encoder: SentenceEncoder):
    together = encoder.encode(minilm.SENTENCES)
    for number, text in enumerate(minilm.SENTENCES[:5]):
        alone = encoder.encode(text)
        assert alone.shape == (384,)
        np.testing.assert_allclose(alone, together[number], atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode(minilm.SENTENCES[::-1], batch_size=3)[::-1], together, atol=1e-6
    )
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sentence_encoder_in_low_precision_means_the_same(encoder: SentenceEncoder, dtype: str):
    low = SentenceEncoder.from_pretrained(minilm.folder(), dtype=dtype).encode(minilm.SENTENCES[:5])
    assert low.dtype == np.float32
    assert cosines(low, encoder.encode(minilm.SENTENCES[:5])).min() > 0.9995


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert"])
def test_sentence_encoder_of_small_models_of_every_family(tmp_path: Path, model_type: str):
    save_text_model(tmp_path, model_type, "base")
    found = SentenceEncoder.from_pretrained(tmp_path)
    texts = ["a b c", "the cat", "the dog and the cat", "b"] * 2
    expected = reference_vectors(tmp_path, texts, found.max_length)
    np.testing.assert_allclose(found.encode(texts, batch_size=3), expected, atol=1e-5)
    by_first_token = SentenceEncoder(found.model, found.tokenizer, "cls")
    expected = reference_vectors(tmp_path, texts, found.max_length, "cls")
    np.testing.assert_allclose(by_first_token.encode(texts), expected, atol=1e-5)
    pairs = [("a b", "the cat"), ("dog", "b b b")]
    np.testing.assert_allclose(
        found.encode(pairs), reference_vectors(tmp_path, [list(p) for p in pairs], 20), atol=1e-5
    )
    long = found.encode("a " * 100)
    np.testing.assert_allclose(
        long, reference_vectors(tmp_path, ["a " * 100], found.max_length)[0], atol=1e-5
    )


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def test_sentence_encoder_reads_the_files_of_sentence_transformers(tmp_path: Path):
    save_text_model(tmp_path, "bert", "base")
    plain = SentenceEncoder.from_pretrained(tmp_path)
    assert (plain.pooling, plain.normalize, plain.max_length) == ("mean", True, 23)
    modules = [
        {"path": "", "type": "st.models.Transformer"},
        {"path": "1_Pooling", "type": "st.models.Pooling"},
    ]
    write(tmp_path, "modules.json", modules)
    write(
        tmp_path, "1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    )
    write(tmp_path, "sentence_bert_config.json", {"max_seq_length": 5})
    found = SentenceEncoder.from_pretrained(tmp_path)
    assert (found.pooling, found.normalize, found.max_length) == ("cls", False, 5)
    raw = found.encode("a b c")
    np.testing.assert_allclose(
        found.encode("a b c", normalize=True), raw / np.linalg.norm(raw), rtol=1e-6, atol=1e-7
    )
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode": "mean"})
    assert SentenceEncoder.from_pretrained(tmp_path).pooling == "mean"
    write(
        tmp_path, "1_Pooling/config.json", {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}
    )
    with pytest.raises(
        ConfigError, match=r"config\.json: pooling pooling_mode_max_tokens and pooling_mode_cls"
    ):
        SentenceEncoder.from_pretrained(tmp_path)
    write(tmp_path, "modules.json", [{"path": "2_Dense", "type": "st.models.Dense"}, *modules])
    with pytest.raises(ConfigError, match=r"modules\.json: module '2_Dense' of type Dense is not built in"):
        SentenceEncoder.from_pretrained(tmp_path)
    (tmp_path / "modules.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"modules\.json: expected a JSON list, got dict"):
        SentenceEncoder.from_pretrained(tmp_path)


def test_sentence_encoder_bad_arguments_are_named(tmp_path: Path):
    save_text_model(tmp_path, "bert", "masked_lm")
    encoder = SentenceEncoder.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        encoder.encode(["a"], batch_size=0)
    with pytest.raises(DataError, match="all strings or all pairs of strings, got both"):
        encoder.encode(["a", ("a", "b")])
    with pytest.raises(ConfigError, match="pooling must be 'mean' or 'cls', got 'max'"):
        SentenceEncoder(encoder.model, encoder.tokenizer, "max")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a bare encoder such as BertModel, got BertForMaskedLM"):
        SentenceEncoder(AutoModelForMaskedLM.from_pretrained(tmp_path), encoder.tokenizer)
    with pytest.raises(ConfigError, match=r"tokenizer has 30522 tokens, the model's vocab_size is \d+"):
        SentenceEncoder(encoder.model, AutoTokenizer.from_pretrained(minilm.folder()))
