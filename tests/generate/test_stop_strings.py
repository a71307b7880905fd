"""Stop strings in text that comes in pieces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pymodel.generate import StopStrings, TextStreamer
from pymodel.generate.streaming import TextPieces
from pymodel.text import Tokenizer


def shown(text: str, stops: list[str], cuts: tuple[int, ...]) -> tuple[str, str | None]:
    found = StopStrings(stops)
    ends = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    return "".join([*(found.push(piece) for piece in pieces), found.finish()]), found.found


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("say END now", ["END"], ("say ", "END")),
        ("aaab", ["aab"], ("a", "aab")),
        ("abcabd", ["abd"], ("abc", "abd")),
        ("abab", ["abc", "ba"], ("a", "ba")),
        ("nothing here", ["zz", "hereafter"], ("nothing here", None)),
        ("ends with EN", ["END"], ("ends with EN", None)),
        ("no stops", [], ("no stops", None)),
    ],
)
def test_stop_strings_do_not_depend_on_how_text_is_cut(text, stops, expected):
    for count in range(4):
        for cuts in itertools.combinations(range(len(text) + 1), count):
            assert shown(text, stops, cuts) == expected, cuts


def test_stop_strings_show_text_as_soon_as_it_is_clear():
    stops = StopStrings(["\n\n"])
    assert stops.push("one") == "one"
    assert stops.push("\n") == ""
    assert stops.push("two\n") == "\ntwo"
    assert stops.push("\nthree") == ""
    assert stops.found == "\n\n"
    assert stops.push("more") == ""


def test_text_pieces_wait_for_whole_characters():
    tokenizer = Tokenizer.train(["plain text"], vocab_size=257)
    ids = tokenizer.encode("aé∂")
    pieces = TextPieces(tokenizer)
    assert [pieces.push(token) for token in ids] == ["a", "", "é", "", "", "∂"]
    assert pieces.push(ids[1]) == ""
    assert pieces.finish() == "\ufffd"


def test_text_pieces_of_a_tokenizer_that_is_not_byte_level():
    class Words:
        def decode(self, ids, skip_special_tokens=False):
            return " ".join(["zero", "one", "tw\ufffd"][i] for i in ids)

    pieces = TextPieces(Words(), ["two"])
    assert pieces.push(0) == "zero"
    assert pieces.push(2) == ""
    assert pieces.finish() == " tw\ufffd"
    goes_on = TextPieces(Words(), before=[1, 0])
    assert [goes_on.push(token) for token in (1, 0)] == [" one", " zero"]
    assert goes_on.finish() == ""


def test_text_streamer_never_prints_a_part_of_a_stop_string(capsys: pytest.CaptureFixture[str]):
    tokenizer = Tokenizer.train(["plain text"], vocab_size=257)
    streamer = TextStreamer(tokenizer)
    streamer.start(np.array(tokenizer.encode("> ")), ["</s>"])
    printed = []
    for token in tokenizer.encode("ok </s> more"):
        streamer.put(token)
        printed.append(capsys.readouterr().out)
    streamer.end()
    assert "".join(printed) + capsys.readouterr().out == "> ok \n"
    assert not any("<" in piece for piece in printed)
