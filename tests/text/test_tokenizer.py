import json
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.text import StreamDecoder, Tokenizer

TEXTS = [f"def function_{i}(value):\n    return value + {i}  # größer 漢字\n" for i in range(200)]
AWKWARD = [
    "",
    " ",
    "plain words, don't stop",
    "\t \n\n  white   space \r\n\u00a0\u3000",
    "emoji 😀👩‍👩‍👧 flags 🇩🇪",
    "漢字かな交じり文 한국어",
    "e\u0301 composed é, \ufeff mark, \U0010ffff last",
    "\x01\x02\x7f control",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=320)


@pytest.mark.parametrize("text", AWKWARD)
def test_tokenizer_round_trips_any_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(np.array(ids, np.uint16)) == text
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)


def test_tokenizer_learns_merges_and_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert len(tokenizer) == tokenizer.vocab_size == 320
    assert len(tokenizer.encode(TEXTS[0])) < len(TEXTS[0].encode()) / 3
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.encode("a<|endoftext|>b")[1] == 0
    more = Tokenizer.train(TEXTS, 300, special_tokens=("<end>", "<pad>"))
    assert (more.eos_token, more.eos_token_id, more.token_id("<pad>")) == ("<end>", 0, 1)
    assert more.special_token_ids == {0, 1}


def test_tokenizer_training_is_deterministic(tokenizer: Tokenizer) -> None:
    again = Tokenizer.train(iter(TEXTS), vocab_size=320)
    assert again.fingerprint == tokenizer.fingerprint
    assert Tokenizer.train(TEXTS, vocab_size=319).fingerprint != tokenizer.fingerprint


def test_tokenizer_batch_equals_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(AWKWARD) == [tokenizer.encode(text) for text in AWKWARD]
    assert tokenizer.encode_batch([]) == []


def test_tokenizer_decode_can_leave_out_special_tokens(tokenizer: Tokenizer) -> None:
    ids = [0, *tokenizer.encode("value"), 0]
    assert tokenizer.decode(ids) == "<|endoftext|>value<|endoftext|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "value"
    assert tokenizer.decode([*ids, 50_000], skip_special_tokens=True) == "value"
    with pytest.raises(DataError, match="got -100"):
        tokenizer.decode([1, -100])


def test_tokenizer_saved_files_load_here_and_in_transformers(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model")) == ["tokenizer.json", "tokenizer_config.json"]
    loaded = Tokenizer.from_pretrained(tmp_path / "model")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.eos_token_id, loaded.pad_token_id) == (0, 0)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in [*AWKWARD, "a , b<|endoftext|>"]:
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs.eos_token_id == theirs.pad_token_id == 0


def test_tokenizer_gpt2_files(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer._backend.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    loaded = Tokenizer.from_pretrained(tmp_path)
    for text in [*AWKWARD, *TEXTS[:5], "a<|endoftext|>b"]:
        assert loaded.encode(text) == tokenizer.encode(text)
    assert (loaded.eos_token_id, loaded.vocab_size) == (0, 320)
    (tmp_path / "merges.txt").write_text("one two three\n")
    with pytest.raises(CheckpointError, match=r"vocab.json and merges.txt: not a whole vocabulary"):
        Tokenizer.from_pretrained(tmp_path)


def test_tokenizer_config_in_hugging_face_forms(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "<|endoftext|>", "lstrip": False}, "model_max_length": 64})
    )
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert (loaded.eos_token_id, loaded.pad_token_id) == (0, None)
    loaded.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["model_max_length"] == 64
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.from_pretrained(tmp_path).pad_token_id == 0
    (tmp_path / "special_tokens_map.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"special_tokens_map.json: cannot be read as JSON"):
        Tokenizer.from_pretrained(tmp_path)


def test_tokenizer_missing_or_damaged_file_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="none: no such folder"):
        Tokenizer.from_pretrained(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"no tokenizer.json in it"):
        Tokenizer.from_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"{}", b"\xff\xfe"):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tokenizer.json: not a whole tokenizer file") as caught:
            Tokenizer.from_pretrained(tmp_path)
        assert "\n" not in str(caught.value)


def test_tokenizer_full_disk_leaves_the_earlier_file(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"tokenizer.json: cannot be written \(File too large\)"):
            Tokenizer.train(TEXTS, 300).save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "tokenizer.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["tokenizer.json", "tokenizer_config.json"]


def test_tokenizer_bad_training_input_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size: expected at least 257 .* got 256"):
        Tokenizer.train(TEXTS, 256)
    with pytest.raises(ConfigError, match="special_tokens"):
        Tokenizer.train(TEXTS, 300, special_tokens=())
    for nothing in ([], ["", ""]):
        with pytest.raises(DataError, match="expected some text"):
            Tokenizer.train(nothing, 300)
    with pytest.raises(DataError, match="text 1: expected a str, got bytes"):
        Tokenizer.train(["a", b"b"], 300)  # type: ignore[list-item]
    with pytest.raises(DataError, match="lone surrogate at character 1"):
        Tokenizer.train(["a\udc80"], 300)


def test_tokenizer_lone_surrogate_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"text 0: .* lone surrogate at character 2"):
        tokenizer.encode("ab\udc80")


def test_streaming_equals_decoding_the_whole(tokenizer: Tokenizer) -> None:
    draw = random.Random(0)
    sequences = [tokenizer.encode(text) for text in AWKWARD]
    # Random ids are mostly broken UTF-8, which must come out the same as well.
    sequences += [[draw.randrange(tokenizer.vocab_size + 5) for _ in range(60)] for _ in range(100)]
    for skip in (False, True):
        decoder = StreamDecoder(tokenizer, skip_special_tokens=skip)
        for ids in sequences:
            text = "".join([decoder.push(token_id) for token_id in ids]) + decoder.finish()
            assert text == tokenizer.decode(ids, skip_special_tokens=skip)


def test_streaming_never_gives_half_a_character(tokenizer: Tokenizer) -> None:
    decoder = StreamDecoder(tokenizer)
    ids = tokenizer.encode("a😀b")
    assert len(ids) == 6  # the emoji is four tokens
    assert [decoder.push(token_id) for token_id in ids] == ["a", "", "", "", "😀", "b"]
    assert decoder.push(ids[1]) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""


def test_streaming_needs_a_byte_level_tokenizer() -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ConfigError, match="byte-level"):
        StreamDecoder(Tokenizer(words))
