"""Marian's tokenizers against transformers', which cuts text with SentencePiece's own library."""

import copy
import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizer_files import AWKWARD, CORPUS

from pymodel.errors import CheckpointError
from pymodel.text import AutoTokenizer, Tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its types are made by a generator that Python finds outdated
    sentencepiece = pytest.importorskip("sentencepiece")

GERMAN = [
    "Der schnelle braune Fuchs springt über den faulen Hund, oder nicht?",
    "Ein größeres Haus; naive Fassade und Zürich.",
    "Sie sagte: „Wir sind hier!“ Dann waren es 12345 Straßen.",
] * 8
TEXTS = [*AWKWARD[:9], *AWKWARD[10:], *GERMAN[:3], ">>de<< The fox", ">>de<<fox", "a </s> b <pad> <unk> c"]
# Both models know all of them: a character that only one knows is always its token here, in stock only where
# it stands alone.
EVERY_CHARACTER = "".join(sorted(set("".join([*TEXTS, *CORPUS]))))


def model_file(corpus: list[str], **options: Any) -> bytes:
    """A SentencePiece model, trained on a few lines."""
    content = io.BytesIO()
    settings = {"vocab_size": 250, "character_coverage": 1.0, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*corpus, EVERY_CHARACTER]), model_writer=content, **(settings | options)
    )
    return content.getvalue()


def write_marian(folder: Path, **options: Any) -> Path:
    """A folder as of Helsinki-NLP/opus-mt-en-de: two models, the union of their pieces, no tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces: dict[str, None] = dict.fromkeys(["</s>", "<unk>"])
    for name, corpus in (("source.spm", CORPUS), ("target.spm", GERMAN)):
        content = model_file(corpus, **options)
        (folder / name).write_bytes(content)
        model = sentencepiece.SentencePieceProcessor(model_proto=content)
        ids = [number for number in range(model.vocab_size()) if not model.is_control(number)]
        pieces |= dict.fromkeys(map(model.id_to_piece, ids))
    vocabulary = {piece: number for number, piece in enumerate([*pieces, ">>de<<", "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "de"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "marian"}))
    return folder


def stock(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a library that tidies punctuation
        return transformers.MarianTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_marian(tmp_path_factory.mktemp("marian"))


def test_marian_both_languages(folder: Path) -> None:
    ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
    for text in TEXTS:
        assert ours.tokenize(text) == theirs.tokenize(text), text
        assert dict(ours(text)) == dict(theirs(text)), text
        assert dict(ours(text_target=text)) == dict(theirs(text_target=text)), text
        assert ours(text, text_target=text)["labels"] == theirs(text, text_target=text)["labels"]
        ids = theirs(text)["input_ids"]
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    options = {"padding": True, "truncation": True, "max_length": 12, "return_tensors": "np"}
    expected = theirs(TEXTS, text_target=GERMAN[: len(TEXTS)], **options)
    for name, column in ours(TEXTS, text_target=GERMAN[: len(TEXTS)], **options).items():
        assert column.tolist() == expected[name].tolist()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert (ours.model_max_length, len(ours)) == (512, len(theirs))


def test_marian_saved_files_load_here_and_in_transformers(folder: Path, tmp_path: Path) -> None:
    ours = AutoTokenizer.from_pretrained(folder, model_max_length=377)
    ours.add_tokens(tokenizers.AddedToken("brown fox", normalized=False))
    ours.add_special_tokens({"additional_special_tokens": ["<new>"]})
    ours.save_pretrained(tmp_path)
    for name in ("source.spm", "target.spm", "vocab.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    theirs, again = stock(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "a brown fox <new>"]:
        for other in (theirs, again, copy.deepcopy(ours)):
            assert dict(ours(text)) == dict(other(text))
            assert dict(ours(text_target=text)) == dict(other(text_target=text))
    assert theirs.model_max_length == again.model_max_length == 377


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False},
        {"remove_extra_whitespaces": False, "user_defined_symbols": ["fox", "über"]},
    ],
)
def test_marian_normalisation(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_marian(tmp_path, **options)
    ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
    for text in ["The quick brown fox", "größer  ﬁne FOX", " two  spaces ", *GERMAN[:3]]:
        assert ours.tokenize(text) == theirs.tokenize(text), text


def test_marian_side_is_set_for_both_languages(folder: Path) -> None:
    tokenizer = Tokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    rows = tokenizer(text_target=["Ein Haus", "Haus"], padding=True)["input_ids"]
    assert rows[1][0] == tokenizer.pad_token_id


def test_marian_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    def damaged(name: str, content: bytes, message: str) -> None:
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            AutoTokenizer.from_pretrained(tmp_path)

    source = (folder / "source.spm").read_bytes()
    for content in (
        source[: len(source) // 2],
        b"\xff\xff",
        b"\x0f",
        struct.pack("<q", 7) * 3,
        b"",
        b"\x0a\x80",
    ):
        damaged("source.spm", content, r"source.spm: not a whole SentencePiece model")
    damaged("target.spm", model_file(GERMAN, model_type="bpe"), r"target.spm: .*expected a unigram model")
    damaged("vocab.json", b"{", r"vocab.json: not a whole vocabulary")
    damaged("vocab.json", b'{"a": 0, "b": 5}', r"vocab.json: .*not the numbers from 0 on")
    damaged("vocab.json", b'{"a": 0}', r"vocab.json: </s>, <unk> is not in it")
    damaged(
        "tokenizer_config.json", b'{"separate_vocabs": true}', "expected one vocabulary for both languages"
    )
