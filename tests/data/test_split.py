import gzip
from pathlib import Path

import pytest

from pymodel.data import Corpus, gzip_bits_per_byte, is_held_out, readers, split_documents
from pymodel.data.split import Part
from pymodel.errors import ConfigError, DataError


def joined(part: Part) -> str:
    return "".join(document.text for document in part)


def test_split_by_document_is_disjoint_complete_and_the_same_everywhere(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for i in range(300):
            (tmp_path / place / f"{i}.txt").write_text(f"document {i}\n")
    here, there = split_documents(tmp_path / "here", 0.1), split_documents(tmp_path / "there", 0.1)
    assert here.method == "document"
    names = [{document.name for document in part} for part in (here.train, here.held_out)]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 300
    assert names[1] == {document.name for document in there.held_out}
    assert 15 <= len(names[1]) == here.held_out.document_count <= 60
    assert here.held_out.text_bytes == len(joined(here.held_out).encode())
    assert here.train.fingerprint != here.held_out.fingerprint != there.held_out.fingerprint
    # The hash is part of what users compare results by: it must never change.
    assert [i for i in range(60) if is_held_out(f"{i}.txt", 0.1)] == [14, 48]


@pytest.mark.parametrize("character", ["a", "é", "漢"])
def test_split_of_a_single_file_holds_out_its_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    monkeypatch.setattr(readers, "PIECE_CHARACTERS", 500)
    text = "".join(f"{i:04d} {character * 20}\n" for i in range(400))
    (tmp_path / "a.txt").write_text(text)
    split = split_documents(tmp_path / "a.txt", 0.2)
    assert split.method == "tail"
    assert joined(split.train) + joined(split.held_out) == text
    assert joined(split.train).endswith("\n")
    total = len(text.encode())
    assert abs(split.held_out.text_bytes / total - 0.2) < 0.01
    assert split.held_out.text_bytes == len(joined(split.held_out).encode())
    assert [document.piece for document in split.held_out] == list(range(len(list(split.held_out))))
    assert (split.train.document_count, split.held_out.document_count) == (1, 1)


@pytest.mark.parametrize("lines", [100, 10_000])  # the giant is two fifths of the corpus, or nearly all
def test_split_one_giant_among_many_falls_back_to_the_tail(tmp_path: Path, lines: int) -> None:
    held_out = next(f"{i}.txt" for i in range(1000) if is_held_out(f"{i}.txt", 0.1))
    for i in range(50):
        (tmp_path / f"{i}.txt").write_text("small\n" * 5)
    (tmp_path / held_out).write_text("large text\n" * lines)
    split = split_documents(tmp_path, 0.1)
    assert split.method == "tail"
    assert joined(split.train) + joined(split.held_out) == "".join(d.text for d in Corpus(tmp_path))


def test_split_without_spaces_cuts_between_characters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("漢字" * 100)
    split = split_documents(tmp_path / "a.txt", 0.05)
    assert joined(split.train) + joined(split.held_out) == "漢字" * 100
    assert 1 <= len(joined(split.held_out)) <= 20


def test_split_too_small_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 20)
    with pytest.raises(DataError, match=r"100 bytes, too few .* each needs 50; add 901 bytes of text"):
        split_documents(path, 0.05, minimum_bytes=50)
    path.write_text("word " * 202)
    assert split_documents(path, 0.05, minimum_bytes=40).held_out.text_bytes >= 40
    path.write_text("é")
    with pytest.raises(DataError, match="too few to split"):
        split_documents(path)
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="fraction"):
            split_documents(path, fraction)


def test_split_reports_progress(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 100)
    seen: list[int] = []
    split_documents(tmp_path, progress=seen.append)
    assert seen[-1] == 500


def test_split_of_the_standard_library_near_the_share_asked_for() -> None:
    split = split_documents("stdlib", 0.05)
    assert split.method == "document"
    total = split.train.text_bytes + split.held_out.text_bytes
    assert total == Corpus("stdlib").size
    assert 0.02 < split.held_out.text_bytes / total < 0.12


def test_compression_equals_gzip_of_the_concatenation(tmp_path: Path) -> None:
    texts = ["the same words again and again é\n" * 50, "other words\n" * 30]
    paths = [tmp_path / "a.txt", tmp_path / "b.txt.gz"]
    paths[0].write_text(texts[0])
    paths[1].write_bytes(gzip.compress(texts[1].encode()))
    whole = "".join(texts).encode()
    expected = 8 * len(gzip.compress(whole, 9)) / len(whole)
    assert gzip_bits_per_byte(texts) == gzip_bits_per_byte(paths) == gzip_bits_per_byte([whole]) == expected
    with pytest.raises(DataError, match="expected some text"):
        gzip_bits_per_byte([])


def test_split_shakespeare(shared_data: Path) -> None:
    split = split_documents(shared_data / "tinyshakespeare.txt", 0.1)
    assert split.method == "tail"
    assert abs(split.held_out.text_bytes - 111_539) < 100
    assert 2.5 < gzip_bits_per_byte(document.text for document in split.held_out) < 4
