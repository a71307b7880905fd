import os
import resource
from pathlib import Path

import numpy as np
import pytest

from pymodel.data import Corpus, Document, TokenFile, split_documents, tokenize_corpus
from pymodel.errors import DataError
from pymodel.text import Tokenizer


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "texts").mkdir()
    for i in range(5):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"the cat sat {i} 😀\n" * (i + 1))
    return Corpus(tmp_path / "texts")


def test_tokens_hold_the_whole_corpus_between_end_tokens(
    tmp_path: Path, corpus: Corpus, tokenizer: Tokenizer
) -> None:
    seen: list[int] = []
    tokens = tokenize_corpus(corpus, tokenizer, tmp_path / "new" / "t.bin", seen.append)
    end = tokenizer.eos_token_id
    expected = [end]
    for document in corpus:
        expected += [*tokenizer.encode(document.text), end]
    assert tokens[:].tolist() == expected
    assert len(tokens) == len(expected)
    assert tokens.tokens.dtype == np.uint16
    assert not tokens.tokens.flags.writeable
    assert tokens.header.text_bytes == corpus.size == seen[-1]
    assert tokens.header.document_count == 5
    assert tokens.bytes_per_token == corpus.size / len(expected)
    tokens.verify()


def test_tokens_pieces_of_one_document_have_no_end_between(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [Document("a", "the cat", 0), Document("a", " sat", 1), Document("a", "mat", 0)]
    tokens = tokenize_corpus(documents, tokenizer, tmp_path / "t.bin")
    assert tokenizer.decode(tokens[:]) == "<|endoftext|>the cat sat<|endoftext|>mat<|endoftext|>"
    assert tokens.header.document_count == 2


def test_tokens_large_vocabulary_takes_32_bits(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [Document("a", "the cat")]
    for size, dtype in ((1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)):
        monkeypatch.setattr(Tokenizer, "vocab_size", property(lambda _, size=size: size))  # type: ignore[misc]
        tokens = tokenize_corpus(documents, tokenizer, tmp_path / f"{size}.bin")
        assert tokens.tokens.dtype == dtype
        assert tokens[1:-1].tolist() == tokenizer.encode("the cat")


def test_tokens_file_is_reused_only_for_the_same_text_and_tokenizer(
    tmp_path: Path, corpus: Corpus, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "t.bin"

    def written_anew(documents: object, with_tokenizer: Tokenizer = tokenizer) -> bool:
        before = path.stat().st_ino if path.exists() else None
        tokenize_corpus(documents, with_tokenizer, path)  # type: ignore[arg-type]
        return path.stat().st_ino != before

    split = split_documents(corpus, 0.3)
    assert written_anew(corpus)
    assert not written_anew(corpus)
    assert written_anew(split.train)
    assert not written_anew(split.train)
    assert written_anew(split.held_out)
    assert written_anew(corpus)
    assert written_anew(corpus, Tokenizer.train(["other text"] * 3, 260))
    (tmp_path / "texts" / "0.txt").write_text("changed")
    assert written_anew(corpus, tokenizer)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert written_anew(corpus)
    TokenFile(path).verify()
    assert written_anew(list(corpus))
    assert written_anew(list(corpus))


def test_tokens_reuse_reports_all_the_bytes(tmp_path: Path, corpus: Corpus, tokenizer: Tokenizer) -> None:
    tokenize_corpus(corpus, tokenizer, tmp_path / "t.bin")
    seen: list[int] = []
    tokenize_corpus(corpus, tokenizer, tmp_path / "t.bin", seen.append)
    assert seen == [corpus.size]


def test_tokens_damaged_file_is_an_error(tmp_path: Path, corpus: Corpus, tokenizer: Tokenizer) -> None:
    path = tmp_path / "t.bin"
    tokenize_corpus(corpus, tokenizer, path)
    good = path.read_bytes()
    for content, message in [
        (good[:-2], "expected .* bytes for .* tokens, got .* cut off"),
        (good + b"\0", "cut off or added to"),
        (good[:100], "not a token file"),
        (b"", "not a token file"),
        (b"\0" * 8192, "not a token file"),
        (good.replace(b"tokens 1", b"tokens 9", 1), "expected format"),
        (good.replace(b'"count": ', b'"count":-', 1), "header is damaged"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            TokenFile(path)
        assert str(path) in str(caught.value)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DataError, match="tokens are damaged"):
        TokenFile(path).verify()
    with pytest.raises(DataError, match="No such file"):
        TokenFile(tmp_path / "none.bin")


def test_tokens_full_disk_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, corpus: Corpus, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "out" / "t.bin"
    tokenize_corpus(corpus, tokenizer, path)
    good = path.read_bytes()
    documents = [Document(str(i), "the dog sat on the log " * 5000) for i in range(20)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A size limit makes the system refuse the writing itself, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"t.bin: cannot be written \(File too large\)"):
            tokenize_corpus(documents, tokenizer, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == good
    assert os.listdir(path.parent) == ["t.bin"]


def test_tokens_interrupted_writing_leaves_the_earlier_file(
    tmp_path: Path, corpus: Corpus, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "out" / "t.bin"
    tokenize_corpus(corpus, tokenizer, path)
    good = path.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus(list(corpus), tokenizer, path, interrupt)
    assert path.read_bytes() == good
    assert os.listdir(path.parent) == ["t.bin"]


def test_tokens_of_nothing_or_without_end_token_is_an_error(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="expected documents"):
        tokenize_corpus([], tokenizer, tmp_path / "t.bin")
    without_end = Tokenizer(tokenizer._backend, {})
    with pytest.raises(DataError, match="no end-of-text token"):
        tokenize_corpus([Document("a", "b")], without_end, tmp_path / "t.bin")
    assert os.listdir(tmp_path) == []
