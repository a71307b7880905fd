"""Logits processors against those of transformers, and sampling against the probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as reference

from pymodel.generate.options import GenerationOptions
from pymodel.generate.processors import process_logits, softmax
from pymodel.generate.sampling import Sampler, choose_greedy

BATCH, VOCABULARY, PROMPT = 5, 211, 12
LAST = 17  # the last token of the first rows, so that words begun there are found


@pytest.fixture
def logits() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((BATCH, VOCABULARY)) * 3).astype(np.float32)


@pytest.fixture
def seen() -> np.ndarray:
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, size=(BATCH, PROMPT + 3))
    tokens[:3, -1] = tokens[:3, 4] = LAST
    return tokens


def transformers_processors(options: GenerationOptions) -> reference.LogitsProcessorList:
    """As transformers' generate arranges them."""
    found = reference.LogitsProcessorList()
    if options.repetition_penalty != 1.0:
        found.append(reference.RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.no_repeat_ngram_size:
        found.append(reference.NoRepeatNGramLogitsProcessor(options.no_repeat_ngram_size))
    if options.bad_words:
        found.append(reference.NoBadWordsLogitsProcessor([list(word) for word in options.bad_words]))
    if options.min_new_tokens:
        ends = [token for token in options.end_ids if token < VOCABULARY]
        found.append(reference.MinNewTokensLengthLogitsProcessor(PROMPT, options.min_new_tokens, ends))
    if options.do_sample:
        least = len(options.end_ids) + 1 if options.num_beams > 1 else 1
        found.append(reference.TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            found.append(reference.TopKLogitsWarper(options.top_k, min_tokens_to_keep=least))
        if options.top_p < 1.0:
            found.append(reference.TopPLogitsWarper(options.top_p, min_tokens_to_keep=least))
        if options.min_p:
            found.append(reference.MinPLogitsWarper(options.min_p, min_tokens_to_keep=least))
    if options.renormalize_logits:
        found.append(reference.LogitNormalization())
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8, "do_sample": True, "top_k": 0},
        {"min_new_tokens": 4, "eos_token_id": [3, 70, 999]},
        {"min_new_tokens": 3, "eos_token_id": 3},
        {"do_sample": True, "temperature": 0.7, "top_k": 0},
        {"do_sample": True, "top_k": 1},
        {"do_sample": True, "top_k": 1000},
        {"do_sample": True, "top_k": 0, "top_p": 0.9},
        {"do_sample": True, "top_k": 0, "top_p": 0.01},
        {"do_sample": True, "top_k": 0, "min_p": 0.05},
        {"do_sample": True, "top_k": 0, "min_p": 1.0},
        {"do_sample": True, "top_k": 1, "num_beams": 2, "eos_token_id": [3, 5]},
        {"do_sample": True, "top_k": 0, "top_p": 0.01, "num_beams": 2, "eos_token_id": [3, 5]},
        {"do_sample": True, "top_k": 0, "min_p": 1.0, "num_beams": 2, "eos_token_id": [3, 5]},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 16},
        {"bad_words_ids": [[7], [8, 9], [LAST, 10], [LAST, 11]]},
        {"repetition_penalty": 1.2, "renormalize_logits": True},
        {
            "do_sample": True,
            "repetition_penalty": 1.2,
            "min_new_tokens": 9,
            "eos_token_id": 5,
            "temperature": 1.4,
            "top_k": 40,
            "top_p": 0.8,
            "min_p": 0.1,
        },
    ],
)
def test_processors_equal_those_of_transformers(logits, seen, options):
    chosen = GenerationOptions(**options)
    expected = transformers_processors(chosen)(
        torch.from_numpy(seen), torch.from_numpy(logits.copy())
    ).numpy()
    process_logits(logits, list(seen), 3, chosen)
    np.testing.assert_array_equal(np.isneginf(logits), np.isneginf(expected))
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_processors_keep_equal_tokens_of_top_k():
    logits = np.array([[1.0, 2.0, 2.0, 0.0]], dtype=np.float32)
    process_logits(logits, [np.array([0])], 0, GenerationOptions(do_sample=True, top_k=1))
    assert np.isneginf(logits).tolist() == [[True, False, False, True]]


def test_sampling_follows_the_probabilities_and_the_seed():
    logits = np.array([[np.log(0.5), -np.inf, np.log(0.3), np.log(0.2)]], dtype=np.float32)
    sampler = Sampler(7)
    drawn = np.array([sampler.choose(logits, np.arange(1))[0] for _ in range(4000)])
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, softmax(logits)[0], atol=0.03)
    assert shares[1] == 0.0
    again = Sampler(7)
    np.testing.assert_array_equal([again.choose(logits, np.arange(1))[0] for _ in range(50)], drawn[:50])


def test_sampling_numbers_depend_on_sample_and_not_on_the_row():
    logits = np.zeros((4, 1000), dtype=np.float32)
    rows = Sampler(1).choose(logits, np.array([0, 1, 0, 2]))
    assert rows[0] == rows[2]
    assert len(set(rows.tolist())) == 3
    assert Sampler(1).choose(logits[:1], np.array([2]))[0] == rows[3]


def test_sampling_of_one_possible_token_and_of_no_rows():
    logits = np.full((1, 6), -np.inf, dtype=np.float32)
    logits[0, 4] = -80.0
    assert Sampler(0).choose(logits, np.arange(1)).tolist() == [4]
    assert choose_greedy(logits).tolist() == [4]
    assert Sampler(0).choose(np.zeros((0, 6), np.float32), np.arange(0)).shape == (0,)
