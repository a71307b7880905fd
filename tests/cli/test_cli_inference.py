"""`pymodel embed`, `fill-mask` and `classify`: what a user sees, and what pipelines read."""

from __future__ import annotations

import json
from pathlib import Path

import minilm
import numpy as np
import pytest
from command_line import run, run_process
from text_models import save_text_model

from pymodel.inference import (
    EntityRecognition,
    FillMask,
    SentenceEncoder,
    TextClassification,
    load_classifier,
)

SENTENCES = ["the cat sat on the mat.", "", "a dogs and cats", "paris"]
TAGS = {0: "O", 1: "B-LOC", 2: "I-LOC"}


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("".join(f"{line}\n" for line in SENTENCES))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bare encoder."""
    save_text_model(tmp_path / "model", "bert", "base")
    return tmp_path / "model"


def test_embed_prints_or_writes_vectors(small: Path, sentences: Path):
    expected = SentenceEncoder.from_pretrained(small).encode(SENTENCES)
    shown = run("embed", "--model", small, "--input", sentences).stdout.splitlines()
    assert [json.loads(line)["text"] for line in shown] == SENTENCES
    np.testing.assert_allclose([json.loads(line)["embedding"] for line in shown], expected, rtol=1e-6)
    assert run("embed", "--model", small, given=sentences.read_text()).stdout.splitlines() == shown
    for name in ("out.npy", "out.jsonl"):
        out = small.parent / name
        assert not run("embed", "--model", small, "--input", sentences, "--out", out).stdout
        if name.endswith("npy"):
            np.testing.assert_array_equal(np.load(out), expected)
        else:
            assert out.read_text().splitlines() == shown
    assert run("embed", "--model", small, given="").stdout == ""
    assert run("embed", "--model", small, "--dtype", "bfloat16", given="a b\r\n").stdout.count("\n") == 1


def test_embed_ranks_pairs_of_the_real_minilm(tmp_path: Path):
    folder, path = minilm.folder(), tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in minilm.PAIRS))
    shown = run("embed", "--model", folder, "--input", path, "--pairs").stdout.splitlines()
    cosines = [float(line.split("\t")[0]) for line in shown]
    assert cosines == sorted(cosines, reverse=True)
    assert {tuple(line.split("\t")[1:]) for line in shown} == set(minilm.PAIRS)
    assert {tuple(line.split("\t")[1:]) for line in shown[:2]} == set(minilm.PAIRS[:2])
    out = tmp_path / "ranked.jsonl"
    run("embed", "--model", folder, "--input", path, "--pairs", "--out", out)
    ranked = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["first"], line["second"]) for line in ranked] == [
        tuple(line.split("\t")[1:]) for line in shown
    ]


def test_fill_mask_shows_the_likeliest_words(tmp_path: Path):
    save_text_model(tmp_path, "roberta", "masked_lm")
    ((first, second),) = FillMask.from_pretrained(tmp_path)("the <mask> sat", top_k=2)
    words = ("fill-mask", "--model", tmp_path, "--text", "the <mask> sat", "--top-k", 2)
    lines = run(*words).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].split() == f"{first.score:.4f} {first.token_str} {first.sequence}".split()
    assert json.loads(run(*words, "--json").stdout)[1]["token"] == second.token
    two = run("fill-mask", "--model", tmp_path, "--text", "-", given="<mask> cat <mask>\n").stdout
    assert [line for line in two.splitlines() if line.startswith("gap")] == ["gap 1", "gap 2"]
    assert len(two.splitlines()) == 12


def test_classify_texts(tmp_path: Path, sentences: Path):
    model = tmp_path / "model"
    labels = {0: "bad", 1: "good", 2: "mixed"}
    save_text_model(model, "distilbert", "sequence_classification", id2label=labels)
    classifier = load_classifier(model)
    assert isinstance(classifier, TextClassification)
    expected = classifier(SENTENCES)
    lines = run("classify", "--model", model, "--input", sentences).stdout.splitlines()
    for line, scores, text in zip(lines, expected, SENTENCES, strict=True):
        assert line.split("\t") == [*(f"{s.label} {s.score:.4f}" for s in scores), text]
    (best,) = run("classify", "--model", model, "--text", "paris", "--top-k", 1).stdout.splitlines()
    assert best == f"{expected[3][0].label} {expected[3][0].score:.4f}\tparis"
    given = json.loads(run("classify", "--model", model, "--json", given="the cat\n").stdout)
    assert given["text"] == "the cat"
    assert {score["label"] for score in given["labels"]} == set(labels.values())
    assert run("classify", "--model", model, "--pairs", "--text", "the cat\tparis").stdout.count("\n") == 1


def test_classify_tokens(tmp_path: Path):
    save_text_model(tmp_path, "bert", "token_classification", id2label=TAGS)
    text = "the capital of france is paris and the cat sat"
    finder = load_classifier(tmp_path)
    assert isinstance(finder, EntityRecognition)
    (entities,) = finder([text])
    assert {entity.label for entity in entities} == {"LOC"}
    (line,) = run("classify", "--model", tmp_path, "--text", text).stdout.splitlines()
    first = entities[0]
    assert line.split("\t")[0] == f"{first.label} {first.score:.4f} {first.start}-{first.end} {first.text}"
    found = json.loads(run("classify", "--model", tmp_path, "--text", text, "--json").stdout)
    assert [entity["start"] for entity in found["entities"]] == [entity.start for entity in entities]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embed", "--out", "vectors.txt"], "--out vectors.txt: expected a name that ends in .npy or .jsonl"),
        (["embed", "--pairs", "--out", "a.npy"], "ranked pairs are text"),
        (["embed", "--input", "missing.txt"], "missing.txt: cannot be read (No such file or directory)"),
        (["embed", "--pairs"], "line 1: expected two texts with a tab between them, got 1"),
        (["embed", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["fill-mask", "--text", "no gap"], "text: expected [MASK] at least once, got none"),
        (["classify", "--text", "a", "--input", "b"], "--text and --input: give one of them"),
        (["classify", "--text", "a", "--top-k", "0"], "--top-k must be at least 1, got 0"),
        (["classify", "--text", "a"], "holds a BertForMaskedLM, which is no classifier"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*holds no pooler")
def test_inference_errors_are_one_line(tmp_path: Path, words: list[str], message: str):
    save_text_model(tmp_path, "bert", "masked_lm")
    result = run(words[0], "--model", tmp_path, *words[1:], code=2, given="the cat\n")
    assert message in result.stderr


def test_embed_in_a_process_of_its_own_and_without_a_model(tmp_path: Path, small: Path, sentences: Path):
    shown = run_process("embed", "--model", small, "--input", sentences).stdout
    assert len(shown.splitlines()) == len(SENTENCES)
    missing = run_process("embed", "--model", tmp_path / "nothing", code=2).stderr
    assert "no such folder" in missing
