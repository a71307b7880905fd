from pathlib import Path

import numpy as np
import pytest

from pymodel.data import (
    Document,
    LanguageModelBatches,
    evaluation_windows,
    tokenize_corpus,
)
from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.text import Tokenizer


def predicted(batches: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The labels the model is asked for after its shift."""
    return np.concatenate([batch["labels"][:, 1:].ravel() for batch in batches])


@pytest.mark.parametrize(
    ("count", "seq_len"),
    [(1000, 8), (57, 8), (8, 8), (9, 8), (14, 8), (15, 8), (100, 2)],  # one window exactly; a few too many
)
def test_batches_predict_each_token_once_an_epoch(count: int, seq_len: int) -> None:
    batches = LanguageModelBatches(np.arange(count), 1, seq_len, seed=3)
    for _ in range(5):
        epoch = [next(batches) for _ in range(len(batches))]
        seen = np.sort(predicted(epoch))
        assert np.array_equal(seen, np.arange(seen[0], seen[0] + len(batches) * (seq_len - 1)))
        assert count - len(seen) < 2 * seq_len
        for batch in epoch:
            assert batch["input_ids"].dtype == batch["labels"].dtype == np.int64
            assert batch["input_ids"].shape == (1, seq_len)
            assert np.array_equal(batch["input_ids"], batch["labels"])
            assert not np.shares_memory(batch["input_ids"], batch["labels"])


def test_batches_in_order_without_shuffling() -> None:
    # 32 tokens: one too few for an eighth window, although 32 is eight strides.
    batches = list(LanguageModelBatches(np.arange(32), 2, 5, shuffle=False, epochs=1))
    assert np.array_equal(predicted(batches), np.arange(1, 25))
    rest = list(LanguageModelBatches(np.arange(30), 2, 5, shuffle=False, drop_last=False, epochs=1))
    assert len(rest) == 4
    assert rest[-1]["input_ids"].tolist() == [[24, 25, 26, 27, 28]]


def test_batches_order_and_phase_change_with_epoch_and_seed() -> None:
    def epochs(seed: int) -> list[np.ndarray]:
        batches = LanguageModelBatches(np.arange(2000), 4, 16, seed=seed)
        return [np.stack([next(batches)["input_ids"] for _ in range(len(batches))]) for _ in range(3)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])
    phases = {int(epoch.min()) % 15 for epoch in [*first, *other]}
    assert len(phases) > 1
    # Drawn from raw Philox output, which NumPy keeps: a checkpoint resumes on any version.
    assert first[0][0, :, 0].tolist() == [1337, 1157, 32, 1757]


@pytest.mark.parametrize(
    "stop", [0, 1, 16, 17, 40]
)  # the start, inside and at the border of an epoch, far on
def test_batches_resume_bit_for_bit(stop: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 500, 1100)
    straight = LanguageModelBatches(tokens, 4, 17, seed=9)
    assert len(straight) == 16
    for _ in range(stop):
        next(straight)
    state = straight.state_dict()
    resumed = LanguageModelBatches(tokens, 4, 17, seed=9)
    next(resumed)
    resumed.load_state_dict(state)
    for _ in range(40):
        assert np.array_equal(next(straight)["input_ids"], next(resumed)["input_ids"])
    assert straight.state_dict() == resumed.state_dict()


def test_batches_of_ranks_are_disjoint_and_make_up_the_global_batch() -> None:
    tokens = np.arange(1000)
    whole = LanguageModelBatches(tokens, 6, 10, seed=1)
    ranks = [LanguageModelBatches(tokens, 2, 10, seed=1, rank=rank, world_size=3) for rank in range(3)]
    assert {len(rank) for rank in ranks} == {len(whole)}
    for _ in range(2 * len(whole)):
        parts = [next(rank)["input_ids"] for rank in ranks]
        assert np.array_equal(np.concatenate(parts), next(whole)["input_ids"])
    # Regrouped on resuming: the same global batch on one process.
    whole.load_state_dict(ranks[0].state_dict())


def test_batches_epochs_end_the_iteration() -> None:
    batches = LanguageModelBatches(np.arange(100), 2, 5, epochs=3)
    assert len(list(batches)) == 3 * len(batches)
    assert batches.epoch == 3
    assert list(batches) == []
    ended = LanguageModelBatches(np.arange(100), 2, 5, epochs=3)
    ended.load_state_dict(batches.state_dict())
    assert list(ended) == []


def test_batches_state_of_another_run_is_refused() -> None:
    tokens = np.arange(1000)
    batches = LanguageModelBatches(tokens, 4, 10)
    state = batches.state_dict()
    for other, name in [
        (LanguageModelBatches(tokens, 5, 10), "global_batch_size 4, this run has 5"),
        (LanguageModelBatches(tokens, 4, 11), "seq_len 10"),
        (LanguageModelBatches(tokens, 4, 10, seed=1), "seed 0"),
        (LanguageModelBatches(tokens[1:], 4, 10), "token_count 1000"),
    ]:
        with pytest.raises(CheckpointError, match=name):
            other.load_state_dict(state)
    for damaged in ({}, state | {"batch": 10_000}, state | {"epoch": -1}):
        with pytest.raises(CheckpointError, match="data position"):
            batches.load_state_dict(damaged)


def test_batches_too_short_a_corpus_is_an_error_with_the_way_out() -> None:
    with pytest.raises(DataError, match="5 tokens, a window takes 8; add 3 tokens"):
        LanguageModelBatches(np.arange(5), 1, 8)
    with pytest.raises(DataError, match="3 windows of 8, fewer than the 4 of one batch; add 5 tokens"):
        LanguageModelBatches(np.arange(30), 4, 8)
    assert len(LanguageModelBatches(np.arange(35), 4, 8)) == 1
    with pytest.raises(DataError, match="one-dimensional integer array, got 2"):
        LanguageModelBatches(np.zeros((3, 3), int), 1, 2)
    with pytest.raises(DataError, match="float64"):
        LanguageModelBatches(np.zeros(9), 1, 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch_size", {"batch_size": 0}),
        ("seq_len", {"seq_len": 1}),
        ("seed", {"seed": -1}),
        ("epochs", {"epochs": -1}),
        ("rank", {"rank": 1}),
        ("drop_last", {"world_size": 2, "drop_last": False}),
    ],
)
def test_batches_bad_setting_is_named(name: str, options: dict[str, int]) -> None:
    settings = {"batch_size": 2, "seq_len": 4} | options
    with pytest.raises(ConfigError, match=f"{name}: expected"):
        LanguageModelBatches(np.arange(100), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 7, 8, 9, 15, 16, 100])  # below, at and above one and two windows
def test_batches_evaluation_predicts_every_token_once(count: int) -> None:
    batches = list(evaluation_windows(np.arange(count), 3, 8))
    labels = predicted(batches)
    assert np.array_equal(labels[labels != -100], np.arange(1, count))
    assert sum(len(batch["labels"]) for batch in batches) == -(-(count - 1) // 7)
    for batch in batches:
        kept = batch["labels"] != -100
        assert batch["input_ids"].shape[1] == 8
        assert np.array_equal(batch["input_ids"][kept], batch["labels"][kept])
        assert not batch["input_ids"][~kept].any()
    with pytest.raises(DataError, match="1 tokens, a window takes 2"):
        evaluation_windows(np.arange(1), 3, 8)


def test_batches_of_a_token_file(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [Document("a", "the cat sat on the mat " * 50)]
    tokens = tokenize_corpus(documents, tokenizer, tmp_path / "t.bin")
    batches = list(LanguageModelBatches(tokens, 1, 8, shuffle=False, epochs=1))
    assert np.array_equal(predicted(batches), tokens[1 : 1 + 7 * len(batches)])
    assert (predicted(list(evaluation_windows(tokens, 4, 8))) != -100).sum() == len(tokens) - 1
