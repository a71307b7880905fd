"""Beam search against transformers, and what it promises about batches and options."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import llama_models
import numpy as np
import pytest
import torch
from hugging_face import saved_model

import pymodel as pm
from pymodel.errors import ConfigError, PymodelError
from pymodel.generate import TextStreamer
from pymodel.generate.beams import largest
from pymodel.generate.sampling import CandidateSampler
from pymodel.generate.sequences import settled
from pymodel.models import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

CONTEXT, END = 40, 0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Ours and transformers' model. A quarter of the logits' usual size, so that beams compete."""
    folder: Path = tmp_path_factory.mktemp("gpt2")
    theirs = saved_model(folder, n_positions=CONTEXT, vocab_size=19)
    with torch.no_grad():
        theirs.transformer.ln_f.weight.mul_(0.25)
    theirs.save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder), theirs


def prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 19, size=length).tolist() for length in lengths]


def by_transformers(model: Any, ids: np.ndarray, **options: Any) -> Any:
    options.setdefault("eos_token_id", END)
    return model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.ones(ids.shape, dtype=torch.int64),
        pad_token_id=END,
        return_dict_in_generate=True,
        output_scores=True,
        **{"do_sample": False, **options},
    )


def check(models: tuple[Any, Any], ids: np.ndarray, **options: Any) -> None:
    ours, theirs = models
    got = ours.generate(ids, return_dict_in_generate=True, **options)
    expected = by_transformers(theirs, ids, **options)
    np.testing.assert_array_equal(got.sequences, expected.sequences.numpy(), err_msg=str(options))
    if options.get("num_beams", 1) > 1:
        scores = expected.sequences_scores.numpy()
        np.testing.assert_allclose(got.sequences_scores, scores, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("num_beams", [2, 3, 5])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.5, 2.0])
def test_beams_equal_transformers(models, num_beams, early_stopping, length_penalty):
    for seed, new in ((0, 1), (1, 7), (2, 25), (3, 12)):
        ids = np.array(prompts([5], seed))
        wanted = 1 + seed % num_beams
        check(
            models,
            ids,
            num_beams=num_beams,
            early_stopping=early_stopping,
            length_penalty=length_penalty,
            num_return_sequences=wanted,
            max_new_tokens=new,
        )


RULES: list[dict[str, Any]] = [
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"min_new_tokens": 6},
    {"min_new_tokens": 11},
    {"bad_words_ids": [[3], [5, 6], [7, 8, 9], [END], [1, 1]]},
    {"forced_eos_token_id": END},
    {"forced_eos_token_id": 4},
    {"forced_bos_token_id": 7},
    {"eos_token_id": [2, 9, 11]},
    {"renormalize_logits": True, "bad_words_ids": [[4], [5]], "length_penalty": 0.0},
]


@pytest.mark.parametrize("num_beams", [1, 2, 4])
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_beams_and_greedy_under_rules_equal_transformers(models, rules, num_beams):
    for seed in range(3):
        length = 1 if "forced_bos_token_id" in rules else 6
        check(models, np.array(prompts([length], seed)), num_beams=num_beams, max_new_tokens=12, **rules)


@pytest.mark.parametrize("seed", range(12))
def test_beams_with_random_options_equal_transformers(models, seed):
    rng = np.random.default_rng(seed)
    for _ in range(3):
        num_beams = int(rng.integers(2, 7))
        rules = {key: value for rule in rng.permutation(len(RULES))[:2] for key, value in RULES[rule].items()}
        check(
            models,
            np.array(prompts([int(rng.integers(1, 9))], int(rng.integers(1000)))),
            num_beams=num_beams,
            num_return_sequences=int(rng.integers(1, num_beams + 1)),
            max_new_tokens=int(rng.integers(12, 20)),
            early_stopping=[False, True, "never"][int(rng.integers(3))],
            **{"length_penalty": float(rng.normal()), **rules},
        )


def test_beams_of_a_batch_equal_transformers(models):
    for seed in range(4):
        ids = np.array(prompts([6] * 5, seed))
        check(models, ids, num_beams=3, num_return_sequences=2, max_new_tokens=10, early_stopping=True)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_beams_of_other_decoders_equal_transformers(name, tmp_path):
    """Grouped heads, rotary positions, and windows that older tokens leave."""
    theirs = llama_models.saved_model(tmp_path, name, max_position_embeddings=40)
    pair = (AutoModelForCausalLM.from_pretrained(tmp_path), theirs)
    for seed, length in enumerate((1, 5, 11)):
        check(
            pair,
            np.array(prompts([length] * 3, seed)),
            num_beams=3,
            num_return_sequences=2,
            max_new_tokens=15,
        )
    model, rows = pair[0], prompts([4, 9, 2], 7)
    together = model.generate(rows, num_beams=3, max_new_tokens=12)
    for got, row in zip(together, rows, strict=True):
        alone = model.generate([row], num_beams=3, max_new_tokens=12)[0, len(row) :]
        np.testing.assert_array_equal(got[9 : 9 + len(alone)], alone)
    cache = model.new_cache(3)
    for turn in range(3):
        got = model.generate(rows, past_key_values=cache, max_new_tokens=4, eos_token_id=[])
        np.testing.assert_array_equal(got, model.generate(rows, max_new_tokens=4, eos_token_id=[]))
        width = max(map(len, rows))
        rows = [[*row, *new, turn + 3] for row, new in zip(rows, got[:, width:].tolist(), strict=True)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 4, "num_return_sequences": 3},
        {"num_beams": 3, "early_stopping": True, "no_repeat_ngram_size": 2, "length_penalty": 2.0},
        {"num_beams": 3, "do_sample": True, "seed": 5, "temperature": 1.7, "num_return_sequences": 2},
        {"num_beams": 2, "do_sample": True, "seed": 6, "top_k": 4, "top_p": 0.8, "min_p": 0.05},
        {"no_repeat_ngram_size": 2, "bad_words_ids": [[3], [4, 5]]},
        {"do_sample": True, "seed": 7, "num_return_sequences": 3, "top_k": 0, "no_repeat_ngram_size": 2},
    ],
    ids=str,
)
def test_beams_and_samples_of_ragged_prompts_are_those_of_each_alone(models, options, use_cache):
    model = models[0]
    rows = prompts([5, 12, 1, 33, 12, 2], 3)
    for ends in ([END], [END, 4, 7]):
        options = {**options, "max_new_tokens": 11, "use_cache": use_cache, "eos_token_id": ends}
        together = model.generate(rows, return_dict_in_generate=True, **options)
        copies = options.get("num_return_sequences", 1)
        for number, row in enumerate(rows):
            alone = model.generate([row], return_dict_in_generate=True, **options)
            mine = slice(number * copies, (number + 1) * copies)
            new = alone.sequences[:, len(row) :]
            got = together.sequences[mine, 33 : 33 + new.shape[1]]
            np.testing.assert_array_equal(got, new)
            if alone.sequences_scores is not None:
                expected = alone.sequences_scores
                np.testing.assert_allclose(together.sequences_scores[mine], expected, rtol=1e-5)


def test_beam_sampling_follows_its_distribution():
    """One step of two beams from a known distribution: how often each pair of tokens comes back."""
    pm.manual_seed(0)
    config = GPT2Config(vocab_size=4, n_positions=4, n_embd=4, n_layer=1, n_head=1, initializer_range=0.5)
    model = GPT2LMHeadModel(config).eval()
    logits = model([[0]]).logits.numpy()[0, -1].astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum()
    counts = np.zeros((4, 4))
    draws = 800
    for seed in range(draws):
        rows = model.generate(
            [[0]],
            num_beams=2,
            num_return_sequences=2,
            do_sample=True,
            seed=seed,
            max_new_tokens=1,
            eos_token_id=[],
        )
        counts[tuple(np.sort(rows[:, 1]))] += 1
    for a, b in itertools.combinations(range(4), 2):
        wanted = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        assert abs(counts[a, b] / draws - wanted) < 0.06


def test_beam_sampling_is_seeded(models):
    model, ids = models[0], prompts([6])
    options = {"num_beams": 3, "do_sample": True, "temperature": 2.0, "max_new_tokens": 12, "top_k": 0}
    first = model.generate(ids, seed=1, **options)
    np.testing.assert_array_equal(first, model.generate(ids, seed=1, **options))
    assert not np.array_equal(first, model.generate(ids, seed=2, **options))
    pm.manual_seed(3)
    unseeded = model.generate(ids, **options)
    pm.manual_seed(3)
    np.testing.assert_array_equal(unseeded, model.generate(ids, **options))


def test_beams_find_the_best_where_all_fit():
    """With as many beams as continuations, the search is exhaustive."""
    pm.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=5, n_positions=4, n_embd=8, n_layer=1, n_head=2, initializer_range=1.0)
    ).eval()
    best, best_score = None, -np.inf
    for new in itertools.product(range(5), repeat=3):
        ids = np.array([[1, *new]])
        logits = model(ids).logits.numpy()[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        score = sum(log_p[i, token] for i, token in enumerate(new)) / 3
        if score > best_score:
            best, best_score = ids, score
    found = model.generate(
        [[1]], num_beams=25, max_new_tokens=3, eos_token_id=[], return_dict_in_generate=True
    )
    np.testing.assert_array_equal(found.sequences, best)
    np.testing.assert_allclose(found.sequences_scores, best_score, rtol=1e-5)


def test_beams_up_to_the_context_and_of_nothing(models):
    model = models[0]
    ids = prompts([CONTEXT - 3])
    out = model.generate(ids, num_beams=3, max_new_tokens=50, eos_token_id=[])
    assert out.shape == (1, CONTEXT)
    np.testing.assert_array_equal(
        out, model.generate(ids, num_beams=3, max_new_tokens=3, eos_token_id=[], early_stopping="never")
    )
    assert model.generate(ids, num_beams=3, max_new_tokens=0).tolist() == ids
    assert model.generate(np.zeros((0, 4), dtype=np.int64), num_beams=3).shape == (0, 4)


@pytest.mark.parametrize("length_penalty", [1e4, -1e4])
def test_beams_with_an_absurd_penalty(models, length_penalty):
    ids = prompts([4])
    out = models[0].generate(ids, num_beams=3, length_penalty=length_penalty, max_new_tokens=9)
    assert out.shape[1] > 4


def test_beams_that_run_out_of_tokens_end(models):
    model = models[0]
    everything = [[token] for token in range(19)]
    out = model.generate([[1, 2]], num_beams=3, bad_words_ids=everything, eos_token_id=[], max_new_tokens=5)
    assert out.tolist() == [[1, 2]]
    out = model.generate([[1]], num_beams=2, no_repeat_ngram_size=1, eos_token_id=[], max_new_tokens=30)
    assert sorted(out[0].tolist()) == list(range(19))
    few = [[token] for token in range(1, 19)]
    out = model.generate(
        [[1]],
        num_beams=3,
        num_return_sequences=3,
        bad_words_ids=few,
        eos_token_id=[],
        max_new_tokens=2,
        return_dict_in_generate=True,
    )
    assert out.sequences.tolist() == [[1, 0, 0]] * 3
    with pytest.raises(PymodelError, match="every token is forbidden"):
        model.generate([[1, 2]], bad_words_ids=everything, eos_token_id=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams must be an integer of at least 1, got 0"),
        (
            {"num_beams": 2, "num_return_sequences": 3},
            "num_return_sequences must be at most num_beams, got 3",
        ),
        ({"early_stopping": "always"}, "early_stopping must be True, False or 'never', got 'always'"),
        ({"length_penalty": float("inf")}, "length_penalty must be a finite number, got inf"),
        ({"num_beams": 2, "stop_strings": "a"}, "stop_strings cannot be used with num_beams above 1"),
        ({"num_beams": 2, "streamer": TextStreamer(None)}, "streamer cannot be used with num_beams above 1"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be an integer of at least 0"),
        ({"bad_words_ids": [[]]}, r"bad_words_ids must be lists of token ids, none of them empty, got \[\]"),
        ({"bad_words_ids": [3]}, "bad_words_ids must be lists of token ids, none of them empty, got 3"),
        (
            {"forced_bos_token_id": 19},
            "forced_bos_token_id must be below the model's vocab_size 19",
        ),
        ({"forced_eos_token_id": [1, -2]}, "forced_eos_token_id must be token ids of at least 0"),
    ],
)
def test_beams_bad_option_is_named(models, options, message):
    with pytest.raises(ConfigError, match=message):
        models[0].generate([[1, 2]], **options)


def test_largest_finds_them_in_order():
    rng = np.random.default_rng(0)
    for size, count in itertools.product((0, 1, 63, 64, 65, 1000, 4099), (1, 2, 8, 200)):
        values = rng.integers(-50, 50, size=size).astype(np.float32)
        values[rng.random(size) < 0.3] = -np.inf
        expected = [place for place in np.argsort(-values, kind="stable") if values[place] > -np.inf]
        assert largest(values, count).tolist() == expected[:count]


def test_candidates_are_drawn_once_and_only_where_possible():
    logits = np.array([0.0, -np.inf, 3.0, -1.0, -np.inf], dtype=np.float32)
    for seed in range(20):
        drawn = CandidateSampler(seed).draw(logits, 4, step=seed)
        assert sorted(drawn.tolist()) == [0, 2, 3]


def test_settled_rows_are_never_read_after_they_were_overwritten():
    rng = np.random.default_rng(0)
    for _ in range(200):
        present = int(rng.integers(1, 8))
        parents = rng.integers(0, present, size=int(rng.integers(0, 10)))
        order = settled(parents)
        assert sorted(order.tolist()) == list(range(len(parents)))
        rows = parents[order]
        changed = {row for row, parent in enumerate(rows) if row != parent}
        assert not changed & {int(rows[row]) for row in changed}
