"""The key-value cache: rows that change places, and conversations that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hugging_face import saved_model

import pymodel as pm
from pymodel.errors import ConfigError
from pymodel.generate import stream_generate
from pymodel.models import GPT2LMHeadModel, KeyValueCache

LAYERS, HEADS, KEY, VALUE, CAPACITY = 2, 3, 5, 7, 11


class Mirror:
    """What a cache should hold, as lists: per layer and row the keys and values, and the cross values."""

    def __init__(self, batch: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.cache = KeyValueCache(LAYERS, batch, HEADS, KEY, CAPACITY, "float32", "cpu", value_dim=VALUE)
        self.rows: list[list[list[np.ndarray]]] = [[[] for _ in range(batch)] for _ in range(2 * LAYERS)]
        self.cross = [self.rng.standard_normal((batch, 4, HEADS, KEY)) for _ in range(LAYERS)]
        for layer, values in enumerate(self.cross):
            keys = pm.tensor(values.astype(np.float32))
            self.cache.set_cross(layer, keys, keys[:, :2])

    def cross_of(self, layer: int) -> tuple[pm.Tensor, pm.Tensor]:
        pair = self.cache.cross(layer)
        assert pair is not None
        return pair

    def append(self, tokens: int, counts: np.ndarray | None = None) -> None:
        """Appends tokens to every row, of which `counts` stay."""
        batch = self.cache.batch
        counts = np.full(batch, tokens) if counts is None else counts
        for layer in range(LAYERS):
            new = [
                self.rng.standard_normal((batch, tokens, HEADS, d)).astype(np.float32) for d in (KEY, VALUE)
            ]
            views = self.cache.append(layer, *map(pm.tensor, new))
            for which, (array, view) in enumerate(zip(new, views, strict=True)):
                rows = self.rows[2 * layer + which]
                for row in range(batch):
                    rows[row] = [*rows[row], *array[row, : counts[row]]]
                    held = view.numpy()[row, : len(rows[row])]
                    np.testing.assert_array_equal(held, np.array(rows[row]).reshape(held.shape))
        self.cache.advance(counts)

    def reorder(self, rows: np.ndarray, shared: np.ndarray | None = None) -> None:
        self.cache.reorder(rows, shared)
        self.rows = [[store[row] for row in rows] for store in self.rows]
        self.cross = [values[rows] for values in self.cross]
        assert self.cache.lengths.tolist() == [len(row) for row in self.rows[0]]
        for layer, values in enumerate(self.cross):
            keys, held = self.cross_of(layer)
            np.testing.assert_array_equal(keys.numpy(), values.astype(np.float32))
            np.testing.assert_array_equal(held.numpy(), values[:, :2].astype(np.float32))


@pytest.mark.parametrize("seed", range(20))
def test_cache_rows_change_places_are_repeated_and_dropped(seed):
    mirror = Mirror(batch=4, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        batch = mirror.cache.batch
        tokens = int(rng.integers(1, 4))
        ragged = rng.random() < 0.5
        mirror.append(tokens, rng.integers(0, tokens + 1, size=batch) if ragged else None)
        mirror.reorder(rng.integers(0, batch, size=int(rng.integers(1, 7))))
    mirror.append(1)


def test_cache_reorder_leaves_what_rows_share_where_it_is():
    mirror = Mirror(batch=2, seed=0)
    mirror.append(3)
    mirror.reorder(np.array([1, 1, 1]))
    for _ in range(3):
        mirror.append(2)
    mirror.reorder(np.array([0, 0, 2]), shared=np.array([0, 3, 9]))
    mirror.append(1)


def test_cache_of_no_rows_and_rows_that_are_not_there():
    mirror = Mirror(batch=3, seed=0)
    mirror.append(2)
    for row in (3, -1):
        with pytest.raises(IndexError, match=r"rows must lie between 0 and 2, got \[0, "):
            mirror.cache.reorder(np.array([0, row]))
    mirror.cache.reorder(np.array([], dtype=np.int64))
    assert mirror.cache.batch == 0
    assert mirror.cross_of(0)[0].shape == (0, 4, HEADS, KEY)


def test_cache_crop_forgets_the_end_of_rows():
    mirror = Mirror(batch=3, seed=1)
    mirror.append(5)
    mirror.cache.note_tokens([np.arange(5)] * 3)
    mirror.cache.crop(9)
    assert mirror.cache.tokens
    mirror.cache.crop(np.array([2, 7, 4]))
    assert not mirror.cache.tokens
    assert mirror.cache.lengths.tolist() == [2, 5, 4]
    mirror.rows = [[rows[:n] for rows, n in zip(store, (2, 5, 4), strict=True)] for store in mirror.rows]
    mirror.append(2)
    mirror.cache.crop(0)
    assert mirror.cache.lengths.tolist() == [0, 0, 0]


def test_cache_beams_of_one_source_do_not_copy_it():
    mirror = Mirror(batch=2, seed=2)
    mirror.append(1)
    mirror.reorder(np.array([0, 0, 1, 1]))
    held = mirror.cross_of(0)[0]
    mirror.reorder(np.array([1, 0, 2, 2]))
    assert mirror.cross_of(0)[0] is held
    mirror.reorder(np.array([2, 3]))
    assert mirror.cross_of(0)[0].shape[0] == 2


# -- conversations ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GPT2LMHeadModel:
    folder: Path = tmp_path_factory.mktemp("gpt2")
    saved_model(folder, n_positions=60)
    return GPT2LMHeadModel.from_pretrained(folder)


class Counting:
    """Counts the tokens that a model is given to read."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = 0
        forward = type(model).forward

        def counted(this: Any, input_ids: Any, *args: Any, **options: Any) -> Any:
            self.tokens += np.asarray(input_ids).size
            return forward(this, input_ids, *args, **options)

        monkeypatch.setattr(type(model), "forward", counted)


def text(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(1, 61, size=length).tolist()


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 2, "temperature": 1.5}], ids=str)
def test_conversation_reads_only_what_is_new(model, monkeypatch, options):
    options = {"max_new_tokens": 6, "eos_token_id": [], **options}
    cache, history = model.new_cache(1), text(9, 0)
    read = Counting(model, monkeypatch)
    for turn in range(3):
        expected = model.generate([history], **options)
        read.tokens = 0
        got = model.generate([history], past_key_values=cache, **options)
        np.testing.assert_array_equal(got, expected)
        # The last token of the answer was chosen and not read yet.
        new = 9 if turn == 0 else 1 + 4
        assert read.tokens == new + 5
        assert cache.tokens[0].tolist() == got[0, :-1].tolist()
        history = [*got[0].tolist(), *text(4, turn + 1)]


def test_conversation_goes_on_from_what_generate_returned(model):
    rows = [text(9, 0), text(4, 1)]
    ends = list(range(0, 61, 7))
    out = model.generate(rows, max_new_tokens=6, eos_token_id=ends, return_dict_in_generate=True)
    assert set(out.keys()) == {"sequences", "past_key_values"}
    held = [row.tolist() for row in out.past_key_values.tokens]
    more = [[*row, *text(3, 5)] for row in held]
    options: dict[str, Any] = {"max_new_tokens": 6, "return_dict_in_generate": True}
    again = model.generate(more, past_key_values=out.past_key_values, **options)
    np.testing.assert_array_equal(again.sequences, model.generate(more, max_new_tokens=6))
    assert model.generate(rows, use_cache=False, **options).past_key_values is None
    assert model.generate(rows, num_beams=2, **options).past_key_values is None


def test_conversation_of_a_row_that_ended_forbids_nothing(model):
    """A row that has used up its tokens waits for the other one, to which no rule applies yet."""
    rows = [[1, 2, 3], [4]]
    bad = [[token] for token in range(1, 61)]
    options: dict[str, Any] = {"no_repeat_ngram_size": 1, "bad_words_ids": bad[4:], "eos_token_id": [4, 3]}
    alone = [model.generate([row], max_new_tokens=3, **options)[0, len(row) :].tolist() for row in rows]
    got = model.generate(rows, past_key_values=model.new_cache(2), max_new_tokens=3, **options)
    for row, new in zip(got[:, 3:].tolist(), alone, strict=True):
        assert row[: len(new)] == new


def test_conversation_that_takes_another_turn_drops_what_differs(model, monkeypatch):
    cache = model.new_cache(1)
    first = model.generate([text(9, 0)], past_key_values=cache, max_new_tokens=6)[0].tolist()
    other = [*first[:11], *text(5, 3)]
    read = Counting(model, monkeypatch)
    got = model.generate([other], past_key_values=cache, max_new_tokens=1)
    assert read.tokens <= 5 + 1
    np.testing.assert_array_equal(got, model.generate([other], max_new_tokens=1))
    same = model.generate([other], past_key_values=cache, max_new_tokens=4)
    np.testing.assert_array_equal(same, model.generate([other], max_new_tokens=4))


def test_conversations_of_a_batch_with_unequal_turns(model):
    rows, cache = [text(9, 0), text(4, 1), text(12, 2)], model.new_cache(3)
    ends = [5, 9, 23, 41, 50]
    for turn in range(3):
        expected = [model.generate([row], max_new_tokens=8, eos_token_id=ends)[0].tolist() for row in rows]
        got = model.generate(rows, past_key_values=cache, max_new_tokens=8, eos_token_id=ends)
        width = max(map(len, rows))
        for row, (old, wanted) in enumerate(zip(rows, expected, strict=True)):
            new = wanted[len(old) :]
            assert got[row, width : width + len(new)].tolist() == new
        rows = [[*wanted, *text(1 + (row + turn) % 3, row)] for row, wanted in enumerate(expected)]


def test_conversation_of_several_samples_goes_on_with_each(model):
    cache = model.new_cache(1)
    options = {"do_sample": True, "seed": 1, "temperature": 2.0, "max_new_tokens": 5, "eos_token_id": []}
    rows = model.generate([text(5, 0)], past_key_values=cache, num_return_sequences=3, **options)
    assert cache.batch == 3
    got = model.generate(rows, past_key_values=cache, max_new_tokens=4)
    np.testing.assert_array_equal(got, model.generate(rows, max_new_tokens=4))


def test_conversation_streamed_and_left_early(model):
    class Tokenizer:
        def decode(self, ids, skip_special_tokens=False):
            return "".join(chr(65 + int(i)) for i in ids)

    cache = model.new_cache(1)
    for response in stream_generate(model, Tokenizer(), text(5, 0), past_key_values=cache, eos_token_id=[]):
        if response.generation_tokens == 3:
            break
    said = model.generate([text(5, 0)], max_new_tokens=3, eos_token_id=[])[0].tolist()
    more = [*said, *text(3, 1)]
    got = model.generate([more], past_key_values=cache, max_new_tokens=5)
    np.testing.assert_array_equal(got, model.generate([more], max_new_tokens=5))


def test_cache_of_another_library_is_named(model):
    theirs = transformers.DynamicCache()
    wanted = "past_key_values must be a KeyValueCache of pymodel, .*got transformers.cache_utils.DynamicCache"
    with pytest.raises(TypeError, match=wanted):
        model([[1, 2]], past_key_values=theirs)
    with pytest.raises(TypeError, match=wanted):
        model.generate([[1, 2]], past_key_values=theirs)
    with pytest.raises(TypeError, match=r"past_key_values must be .*got builtins\.tuple"):
        model([[1, 2]], past_key_values=())


def test_cache_filled_by_the_model_is_continued(model):
    ids, cache = np.array([text(9, 0)]), model.new_cache(1)
    model(ids[:, :7], past_key_values=cache)
    got = model.generate(ids, past_key_values=cache, max_new_tokens=5)
    np.testing.assert_array_equal(got, model.generate(ids, max_new_tokens=5))
    cache = model.new_cache(1)
    model(ids, past_key_values=cache)
    with pytest.raises(ConfigError, match="holds 9 tokens of row 0 and input_ids 9; input_ids must be"):
        model.generate(ids, past_key_values=cache)
    with pytest.raises(ConfigError, match=r"holds 1 rows and input_ids 2; start with model.new_cache\(2\)"):
        model.generate([[1], [2]], past_key_values=cache)
    with pytest.raises(ConfigError, match="past_key_values cannot be used with num_beams above 1"):
        model.generate([[1]], past_key_values=cache, num_beams=2)
    with pytest.raises(ConfigError, match="past_key_values needs use_cache=True"):
        model.generate([[1]], past_key_values=cache, use_cache=False)
