"""Generation with encoder-decoders: transformers' tokens, in batches of unequal sources too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seq2seq_models import FIRST, VOCABULARY, saved_model

from pymodel.errors import ConfigError, PymodelError
from pymodel.generate import stream_generate
from pymodel.models import AutoModelForSeq2SeqLM

LENGTHS = [13, 5, 1, 9]


@pytest.fixture(scope="module", params=FIRST)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Ours and transformers' model of a family."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    theirs = saved_model(folder, request.param)
    return AutoModelForSeq2SeqLM.from_pretrained(folder), theirs


def sources(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, VOCABULARY, size=length).tolist() for length in lengths]


def padded(rows: list[list[int]], on_left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, rows))
    ids, mask = np.ones((2, len(rows), width), dtype=np.int64)
    mask[:] = 0
    for row, target, kept in zip(rows, ids, mask, strict=True):
        place = slice(width - len(row), width) if on_left else slice(len(row))
        target[place], kept[place] = row, 1
    return ids, mask


def by_transformers(model: Any, rows: list[list[int]], **options: Any) -> Any:
    ids, mask = padded(rows)
    return model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 4, "num_return_sequences": 3},
        {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0, "min_length": 5},
        {"num_beams": 2, "early_stopping": "never", "no_repeat_ngram_size": 2, "length_penalty": -0.5},
        {"forced_bos_token_id": 7, "forced_eos_token_id": 9, "num_beams": 3},
        {"forced_bos_token_id": 7, "repetition_penalty": 1.4, "bad_words_ids": [[8], [9, 10]]},
        {"num_beams": 3, "decoder_start_token_id": 11, "eos_token_id": [4, 5, 6], "max_length": 9},
    ],
    ids=str,
)
def test_encoder_decoder_equals_transformers(models, options):
    ours, theirs = models
    options = {"max_length": 13, **options}
    for seed in range(2):
        rows = sources(LENGTHS, seed)
        expected = by_transformers(theirs, rows, **options)
        ids, mask = padded(rows)
        got = ours.generate(ids, attention_mask=mask, return_dict_in_generate=True, **options)
        np.testing.assert_array_equal(got.sequences, expected.sequences.numpy())
        if "num_beams" in options:
            scores = expected.sequences_scores.numpy()
            np.testing.assert_allclose(got.sequences_scores, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("started", [False, True])
def test_encoder_decoder_goes_on_from_a_beginning(models, options, started):
    ours, theirs = models
    rows = sources(LENGTHS, 8)
    begun = np.array(sources([3] * len(rows), 9))
    if started:
        begun[:, 0] = ours.config.decoder_start_token_id
    options = {"max_new_tokens": 7, **options}
    expected = by_transformers(theirs, rows, decoder_input_ids=torch.from_numpy(begun), **options)
    for use_cache in (True, False):
        got = ours.generate(rows, decoder_input_ids=begun, use_cache=use_cache, **options)
        np.testing.assert_array_equal(got, expected.sequences.numpy())


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "seed": 3, "num_return_sequences": 2, "temperature": 1.5},
        {"num_beams": 2, "do_sample": True, "seed": 4, "temperature": 2.0},
    ],
    ids=str,
)
def test_encoder_decoder_gives_each_source_what_it_gets_alone(models, options, use_cache):
    model = models[0]
    rows = sources(LENGTHS, 5)
    # Some rows end early, so that others go on without them.
    options = {"max_new_tokens": 9, "use_cache": use_cache, "eos_token_id": list(range(2, 12)), **options}
    copies = options.get("num_return_sequences", 1)
    batches = [(rows, None), padded(rows), padded(rows, on_left=True)]
    together = [model.generate(ids, attention_mask=mask, **options) for ids, mask in batches]
    for number, row in enumerate(rows):
        alone = model.generate([row], **options)
        for got in together:
            mine = got[number * copies : (number + 1) * copies, : alone.shape[1]]
            np.testing.assert_array_equal(mine, alone)


def test_encoder_decoder_reads_the_source_once(models, monkeypatch):
    model = models[0]
    encoder, calls = model.get_encoder(), []
    forward = type(encoder).forward

    def counted(this: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        return forward(this, *args, **options)

    monkeypatch.setattr(type(encoder), "forward", counted)
    for options in ({}, {"num_beams": 3}, {"num_return_sequences": 2, "do_sample": True}):
        calls.clear()
        model.generate(sources([5, 3]), max_new_tokens=6, **options)
        assert len(calls) == 1


def test_encoder_decoder_streams(models):
    class Numbers:
        def decode(self, ids, skip_special_tokens=False):
            return "".join(f"{int(i)} " for i in ids)

    model, rows = models[0], sources([6])
    expected = model.generate(rows, max_new_tokens=7, eos_token_id=[])[0, 1:].tolist()
    responses = list(stream_generate(model, Numbers(), rows[0], max_new_tokens=7, eos_token_id=[]))
    assert [response.token for response in responses] == expected
    assert "".join(response.text for response in responses) == Numbers().decode(expected)
    assert responses[-1].prompt_tokens == 6


def test_encoder_decoder_of_nothing_and_bad_input(models):
    model = models[0]
    assert model.generate(np.zeros((0, 4), dtype=np.int64)).shape == (0, 1)
    assert model.generate(sources([3]), max_new_tokens=0).tolist() == [[model.config.decoder_start_token_id]]
    with pytest.raises(PymodelError, match="prompt 1 is empty"):
        model.generate([[5], []])
    with pytest.raises(ConfigError, match=r"decoder_input_ids must be 1 rows .* got 2 of 1 and 2 tokens"):
        model.generate([[5]], decoder_input_ids=[[3], [4, 5]])
    with pytest.raises(ConfigError, match="past_key_values cannot be used with an encoder-decoder"):
        model.generate([[5]], past_key_values=model.new_cache(1))
    for call in (model, model.generate):
        options = {"decoder_input_ids": [[3]], "past_key_values": object()}
        with pytest.raises(TypeError, match=r"past_key_values must be .*got builtins\.object"):
            call([[5]], **options)
    with pytest.raises(ConfigError, match="decoder_start_token_id must be below the model's vocab_size"):
        model.generate([[5]], decoder_start_token_id=VOCABULARY)
    with pytest.raises(ValueError, match=f"between 0 and {VOCABULARY - 1}"):
        model.generate([[VOCABULARY]])
    model.config.decoder_start_token_id, start = None, model.config.decoder_start_token_id
    model.config.bos_token_id, begin = None, model.config.bos_token_id
    model.generation_config.decoder_start_token_id = None
    try:
        with pytest.raises(ConfigError, match="decoder_start_token_id: the model's configuration names none"):
            model.generate([[5]])
    finally:
        model.config.decoder_start_token_id, model.config.bos_token_id = start, begin
