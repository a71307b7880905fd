import gzip
import json
from pathlib import Path

import pytest

from pymodel.data import Corpus, Document, iter_documents, readers, resolve, standard_library_files
from pymodel.data.corpus import standard_library_root
from pymodel.errors import DataError
from pymodel.text import Tokenizer


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(spec: object) -> list[str]:
    return [document.text for document in iter_documents(spec)]  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    write(root / "b.txt", "second\r\nline")
    write(root / "a" / "z.md", "first ü 😀")
    write(root / "c.txt.gz", gzip.compress(b"third", mtime=0))
    write(root / "d.jsonl", '\ufeff{"text": "fourth"}\n\n{"text": ""}\n{"id": 1, "text": "fi\\nfth"}')
    write(root / "e.jsonl.gz", gzip.compress(b'{"text": "sixth"}\n', mtime=0))
    write(root / ".hidden", "hidden")
    write(root / ".git" / "x.txt", "hidden")
    return root


def test_sources_folder_gives_every_text_sorted_with_names_below_the_root(folder: Path) -> None:
    assert list(iter_documents(folder)) == [
        Document("a/z.md", "first ü 😀"),
        Document("b.txt", "second\r\nline"),
        Document("c.txt.gz", "third"),
        Document("d.jsonl:1", "fourth"),
        Document("d.jsonl:4", "fi\nfth"),
        Document("e.jsonl.gz:1", "sixth"),
    ]


def test_sources_file_glob_and_list(folder: Path) -> None:
    assert list(iter_documents(str(folder / "b.txt"))) == [Document("b.txt", "second\r\nline")]
    assert resolve(str(folder / "*.txt*")) == [folder / "b.txt", folder / "c.txt.gz"]
    assert [d.name for d in iter_documents(f"{folder}/**/*.md")] == ["a/z.md"]
    # The folder comes second and must not bring the file again.
    assert texts([folder / "c.txt.gz", folder])[:3] == ["third", "first ü 😀", "second\r\nline"]
    assert len(texts([folder / "c.txt.gz", folder])) == 6


def test_sources_file_with_glob_characters_in_its_name(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a[1].txt", "brackets")) == ["brackets"]


def test_sources_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", b"\xef\xbb\xbfplain")) == ["plain"]


def test_sources_folder_leaves_out_binary_files_and_says_so(folder: Path) -> None:
    write(folder / "picture.png", "no NUL, but an image by name")
    write(folder / "data.bin2", b"abc\0def")
    skipped: list[tuple[str, str]] = []
    corpus = Corpus(folder, on_skip=lambda path, reason: skipped.append((path.name, reason)))
    assert len(corpus.files) == 5
    assert skipped == [("data.bin2", "a NUL byte in it"), ("picture.png", "a .png file")]
    with pytest.warns(UserWarning, match=r"left out 2 binary file\(s\), the first .*data.bin2"):
        resolve(folder)


def test_sources_long_text_comes_in_pieces_that_join_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    monkeypatch.setattr(readers, "PIECE_CHARACTERS", 100)
    text = "".join(f"line {i}: the cat  sat\n\n\ton 漢字 the mat\n" for i in range(200))
    pieces = list(iter_documents(write(tmp_path / "a.txt", text)))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.piece for piece in pieces] == list(range(len(pieces)))
    assert all(0 < len(piece.text) <= 100 for piece in pieces)
    # Cut where the pre-tokenizer cuts too: the tokens are those of the whole text.
    encoded = [token for piece in pieces for token in tokenizer.encode(piece.text)]
    assert encoded == tokenizer.encode(text)


def test_sources_word_longer_than_a_piece_is_cut_between_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PIECE_CHARACTERS", 64)
    text = "漢" * 1000
    assert "".join(texts(write(tmp_path / "a.txt", text))) == text
    record = json.dumps({"text": text})
    pieces = list(iter_documents(write(tmp_path / "a.jsonl", record)))
    assert "".join(piece.text for piece in pieces) == text
    assert {piece.name for piece in pieces} == {"a.jsonl:1"}
    assert pieces[1].piece == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"ab\0c", r"a.txt: a binary file \(NUL at byte 2 of the file\)"),
        ("a.txt", b"x" * 300_000 + b"\0", "NUL at byte 300000 of the file"),
        ("a.txt", b"caf\xe9 noir", r"a.txt: not UTF-8 \(0xe9 at byte 3 of the file\); convert it"),
        # A character cut by the end of the file, and one cut by the end of a chunk.
        ("a.txt", b"caf\xc3", "0xc3 at byte 3 of the file"),
        ("a.txt", b"x" * 262_143 + b"\xc3(", "0xc3 at byte 262143 of the file"),
        ("a.txt", "hi".encode("utf-16"), "looks like UTF-16; convert it"),
        ("a.txt", b"", "no text in 1 file"),
        ("a.txt.gz", gzip.compress(b"caf\xe9 ", mtime=0), "at byte 3 of the unpacked text"),
        ("a.txt.gz", gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip file ends early"),
        ("a.txt.gz", b"plain", "not a sound gzip file"),
        ("a.txt.gz", gzip.compress(b"x" * 1000, mtime=0)[:-8] + b"12345678", "not a sound gzip file"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "a.jsonl, line 2: expected a JSON object .* got no JSON"),
        ("a.jsonl", b'{"txt": "a"}', r"a.jsonl, line 1: no \"text\" in it, its keys are 'txt'"),
        ("a.jsonl", b'{"text": 3}', 'line 1: expected a string as "text", got a number'),
        ("a.jsonl", b'["text"]', "line 1: expected a JSON object .* got a list"),
        ("a.jsonl", b"[" * 200_000, "line 1: expected a JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}', "line 1: .* half a surrogate pair at character 0"),
        ("a.jsonl", b'\n{"text": "\xff"}', "line 2: not UTF-8 .*0xff at byte 10 of the line"),
    ],
)
def test_sources_bad_file_is_one_line_naming_it(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        texts(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources_bad_name_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "only" / "picture.png", "x")
    (tmp_path / "empty").mkdir()
    for spec, message in [
        (tmp_path / "none.txt", "none.txt: no such file or folder"),
        (tmp_path / "*.txt", "this glob matches nothing"),
        (tmp_path / "em*", "matches folders only"),
        (tmp_path / "empty", r"no text file in this folder \(0 binary"),
        (tmp_path / "only", r"no text file in this folder \(1 binary"),
        ([], "empty list"),
        ("", "empty name"),
        ("x" * 5000, "cannot be read"),
        ("/dev/null", "not a regular file"),
    ]:
        with pytest.raises(DataError, match=message):
            resolve(spec)  # type: ignore[arg-type]


def test_sources_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permissions do not stop root, so the refusal is made here.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "a.txt", "x")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"a.txt: cannot be read \(Permission denied\)"):
        texts(path)


def test_sources_fingerprint_follows_the_files(folder: Path) -> None:
    before = Corpus(folder).fingerprint
    assert Corpus(folder).fingerprint == before
    write(folder / "b.txt", "another text")
    assert Corpus(folder).fingerprint != before


def test_corpus_standard_library_is_source_without_tests() -> None:
    files = standard_library_files()
    names = [path.relative_to(standard_library_root()).as_posix() for path in files]
    assert names == sorted(names)
    assert files == resolve("stdlib") == standard_library_files()
    assert {"os.py", "json/decoder.py", "asyncio/tasks.py"} <= set(names)
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "__pycache__"}
    assert 6e6 < Corpus("stdlib").size < 20e6
    assert sum(len(document.text.encode()) for document in iter_documents("stdlib")) == Corpus("stdlib").size


def test_sources_real_files(shared_data: Path) -> None:
    captions = "".join(texts(shared_data / "multi30k" / "val.de.gz"))
    assert captions.count("\n") == 1014
    assert "ü" in captions
    assert len(texts(str(shared_data / "*.txt"))) >= 2  # over a megabyte: several pieces
