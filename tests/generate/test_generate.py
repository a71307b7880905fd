"""Generation against transformers, and what it promises about batches, seeds and stops."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from letters import END, Letters, prompts

import pymodel as pm
from pymodel.errors import ConfigError, PymodelError
from pymodel.generate import TextStreamer, generate, stream_generate
from pymodel.generate.options import GenerationOptions
from pymodel.generate.streaming import TextPieces
from pymodel.models import GPT2Config, GPT2LMHeadModel
from pymodel.text import Tokenizer


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, {"min_new_tokens": 12}])
def test_generate_greedy_equals_transformers(model, theirs, use_cache, options):
    ids = np.array(prompts([9, 9, 9, 9]))
    ours = model.generate(ids, max_new_tokens=20, use_cache=use_cache, **options)
    expected = theirs.generate(
        torch.from_numpy(ids),
        attention_mask=torch.ones_like(torch.from_numpy(ids)),
        max_new_tokens=20,
        do_sample=False,
        pad_token_id=END,
        **options,
    )
    np.testing.assert_array_equal(ours, expected.numpy())
    assert ours.dtype == np.int64


def test_generate_left_padded_equals_transformers(model, theirs):
    rows = prompts([9, 4, 1])
    ids, mask = np.zeros((3, 9), dtype=np.int64), np.zeros((3, 9), dtype=np.int64)
    for row, target, kept in zip(rows, ids, mask, strict=True):
        target[9 - len(row) :], kept[9 - len(row) :] = row, 1
    ours = model.generate(ids, max_new_tokens=15, attention_mask=mask)
    expected = theirs.generate(
        torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        max_new_tokens=15,
        do_sample=False,
        pad_token_id=END,
    )
    np.testing.assert_array_equal(ours, expected.numpy())


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("padding", ["left", "right", "lists"])
def test_generate_gives_each_row_what_it_gets_alone(model, padding, sampled, use_cache):
    rows = prompts([5, 12, 1, 34])
    for ends in ([], [END, 16, 7]):
        options = {"max_new_tokens": 12, "do_sample": sampled, "seed": 4, "use_cache": use_cache}
        options["eos_token_id"] = ends
        alone = [model.generate([row], **options)[0, len(row) :] for row in rows]
        if padding == "lists":
            output = model.generate(rows, **options)
        else:
            ids, mask = np.zeros((4, 34), dtype=np.int64), np.zeros((4, 34), dtype=np.int64)
            for row, target, kept in zip(rows, ids, mask, strict=True):
                place = slice(34 - len(row), 34) if padding == "left" else slice(0, len(row))
                target[place], kept[place] = row, 1
            output = model.generate(ids, attention_mask=mask, **options)
            np.testing.assert_array_equal(output[:, :34], ids)
        for new, wanted in zip(output[:, 34:], alone, strict=True):
            np.testing.assert_array_equal(new[: len(wanted)], wanted)
            assert not new[len(wanted) :].any()
        if not ends:  # the longest prompt reaches the end of the context before the others are done
            assert [len(new) for new in alone] == [12, 12, 12, 6]


def test_generate_sampling_is_seeded(model):
    ids = np.array(prompts([6]))
    options = {"max_new_tokens": 20, "do_sample": True, "temperature": 1.5, "top_k": 0}
    first = model.generate(ids, seed=1, **options)
    np.testing.assert_array_equal(first, model.generate(ids, seed=1, **options))
    assert not np.array_equal(first, model.generate(ids, seed=2, **options))
    pm.manual_seed(3)
    unseeded = [model.generate(ids, **options) for _ in range(2)]
    assert not np.array_equal(*unseeded)
    pm.manual_seed(3)
    np.testing.assert_array_equal(model.generate(ids, **options), unseeded[0])


def test_generate_several_sequences_of_one_prompt_differ(model):
    rows = prompts([6, 3])
    options = {"max_new_tokens": 12, "do_sample": True, "temperature": 1.5, "top_k": 0, "seed": 8}
    output = model.generate(rows, num_return_sequences=3, **options)
    assert output.shape[0] == 6
    np.testing.assert_array_equal(output[0, 6:], model.generate(rows[:1], **options)[0, 6:])
    assert len({row[6:].tobytes() for row in output[:3]}) == 3


def test_generate_top_k_of_one_is_greedy(model):
    ids = np.array(prompts([6]))
    sampled = model.generate(ids, max_new_tokens=20, do_sample=True, top_k=1, seed=0)
    np.testing.assert_array_equal(sampled, model.generate(ids, max_new_tokens=20))


def test_generate_stops_at_end_tokens_and_at_the_context(model):
    ids = np.array(prompts([6]))
    plain = model.generate(ids, max_new_tokens=20, eos_token_id=[])
    assert plain.shape == (1, 26)
    end = int(plain[0, 9])
    stopped = model.generate(ids, max_new_tokens=20, eos_token_id=[end, 999])
    first = 6 + int(np.flatnonzero(plain[0, 6:] == end)[0])
    np.testing.assert_array_equal(stopped, plain[:, : first + 1])
    assert model.generate(ids, max_new_tokens=100, eos_token_id=[]).shape == (1, 40)
    assert model.generate(ids, max_new_tokens=0).tolist() == ids.tolist()
    assert model.generate(np.zeros((0, 4), dtype=np.int64)).shape == (0, 4)
    for options in ({}, {"num_beams": 2}, {"return_dict_in_generate": True}):
        nothing = model.generate([], max_new_tokens=3, **options)
        assert getattr(nothing, "sequences", nothing).shape == (0, 0)


def test_generate_ignores_training_mode_and_restores_it(folder: Path):
    model = GPT2LMHeadModel.from_pretrained(folder, resid_pdrop=0.5, embd_pdrop=0.5)
    ids = np.array(prompts([6]))
    expected = model.generate(ids, max_new_tokens=10)
    model.train()
    np.testing.assert_array_equal(model.generate(ids, max_new_tokens=10), expected)
    assert model.training


def test_generate_stop_string_may_span_tokens(model):
    tokenizer = Letters()
    ids = np.array([tokenizer.encode("hello")])
    plain = model.generate(ids, max_new_tokens=20, eos_token_id=[])[0]
    text = tokenizer.decode(plain[5:])
    stop = text[4:7]
    where = text.index(stop)
    output = model.generate(ids, max_new_tokens=20, eos_token_id=[], stop_strings=stop, tokenizer=tokenizer)[
        0
    ]
    assert stop in tokenizer.decode(output[5:])
    assert stop not in tokenizer.decode(output[5:-1])
    responses = list(stream_generate(model, tokenizer, "hello", eos_token_id=[], stop_strings=[stop, "~"]))
    assert "".join(response.text for response in responses) == text[:where]
    assert responses[-1].finish_reason == "stop"
    assert [response.token for response in responses] == output[5:].tolist()
    assert all(response.finish_reason is None for response in responses[:-1])


def test_stream_generate_tells_what_it_did(model):
    responses = list(stream_generate(model, Letters(), "hello", max_new_tokens=7, eos_token_id=[]))
    assert len(responses) == 7
    last = responses[-1]
    assert (last.prompt_tokens, last.generation_tokens, last.finish_reason) == (5, 7, "length")
    assert last.generation_tps > 0
    assert last.prompt_tps > 0
    expected = model.generate([Letters().encode("hello")], max_new_tokens=7, eos_token_id=[])[0, 5:]
    assert [response.token for response in responses] == expected.tolist()
    assert "".join(response.text for response in responses) == Letters().decode(expected)


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_text_streamer_prints_what_is_generated(model, skip_prompt):
    tokenizer, stream = Letters(), io.StringIO()
    streamer = TextStreamer(tokenizer, skip_prompt=skip_prompt, stream=stream)
    ids = [tokenizer.encode("hello")]
    output = model.generate(ids, max_new_tokens=9, eos_token_id=[], streamer=streamer)
    text = tokenizer.decode(output[0, 5:])
    assert stream.getvalue() == ("" if skip_prompt else "hello") + text + "\n"
    stream.seek(stream.truncate(0))
    options = {"stop_strings": text[3:5], "tokenizer": tokenizer, "streamer": streamer}
    model.generate(ids, max_new_tokens=9, eos_token_id=[], **options)
    assert stream.getvalue().removeprefix("hello") == text[: text.index(text[3:5])] + "\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": True, "temperature": 0.0}, "temperature must be above 0, got 0.0; .*do_sample=False"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": float("nan")}, "top_p must be above 0"),
        ({"min_p": 1.5}, "min_p must be between 0 and 1, got 1.5"),
        ({"top_k": -1}, "top_k must be an integer of at least 0, got -1"),
        ({"top_k": 2.5}, "top_k must be an integer"),
        ({"max_new_tokens": -1}, "max_new_tokens must be an integer of at least 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"num_return_sequences": 2}, "num_return_sequences must be 1 without sampling"),
        ({"stop_strings": ["a", ""]}, "stop_strings must be strings that are not empty"),
        ({"stop_strings": "a"}, "pass the model's tokenizer"),
        ({"eos_token_id": -3}, "eos_token_id must be token ids"),
        ({"seed": -3}, "seed must be an integer of at least 0"),
        ({"top_n": 3}, "generate has no option 'top_n'; it has max_new_tokens"),
    ],
)
def test_generate_bad_option_is_named(model, options, message):
    with pytest.raises(ConfigError, match=message):
        generate(model, [[1, 2]], **options)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(GenerationOptions)])
def test_generate_option_of_a_wrong_type_is_named(model, name):
    wrong: dict[str, list[Any]] = {
        "top_p": ["x", True],
        "temperature": ["x", [1.0]],
        "top_k": ["x", True],
        "do_sample": ["yes", 1],
        "early_stopping": ["always", np.array([True])],
        "seed": [1.5],
        "stop_strings": [5, [5], "", ["a", ""]],
        "eos_token_id": ["x", 2.5, True, np.array(2.5)],
        "bad_words_ids": [5, "ab", [["a"]], [3], [None]],
        "forced_bos_token_id": [[7]],
    }
    for value in [object(), {"a": 1}, *wrong.get(name, [])]:
        with pytest.raises(ConfigError, match=f"^{name} must be "):
            generate(model, [[1, 2]], **{"tokenizer": Letters(), "do_sample": True, name: value})


def test_generate_options_may_be_arrays(model):
    options: dict[str, Any] = {"max_new_tokens": np.int32(8), "repetition_penalty": np.float32(1.5)}
    given = model.generate(
        [[1, 2]], eos_token_id=np.array([3, 4]), bad_words_ids=np.array([[5], [6]]), **options
    )
    expected = model.generate([[1, 2]], eos_token_id=[3, 4], bad_words_ids=[[5], [6]], **options)
    np.testing.assert_array_equal(given, expected)


def test_generate_bad_prompt_is_named(model):
    for length in (40, 50):
        with pytest.raises(
            PymodelError, match=f"the prompt has {length} tokens and the model's context holds 40"
        ):
            model.generate(np.ones((1, length), dtype=np.int64))
    with pytest.raises(PymodelError, match="prompt 1 is empty"):
        model.generate([[1], []])
    with pytest.raises(ValueError, match="between 0 and 60, got 61"):
        model.generate([[61]])
    with pytest.raises(ValueError, match=r"attention_mask must have the shape \(1, 2\)"):
        model.generate([[1, 2]], attention_mask=[[1]])
    with pytest.raises(ConfigError, match="decoder_input_ids are for encoder-decoders"):
        model.generate([[1]], decoder_input_ids=[[2]])
    with pytest.raises(ConfigError, match="streamer: expected one sequence"):
        model.generate([[1], [2]], streamer=TextStreamer(Letters()))


def test_generate_names_weights_that_are_no_numbers(folder: Path):
    model = GPT2LMHeadModel.from_pretrained(folder)
    model.state_dict()["transformer.ln_f.weight"].numpy()[3] = np.nan
    with pytest.raises(PymodelError, match="logits hold NaN"):
        model.generate([[1, 2]])


def test_generate_cache_keeps_its_memory(model):
    cache = model.new_cache(2, 30)
    model(np.ones((2, 5), dtype=np.int64), past_key_values=cache)
    place = cache._keys[0].data_ptr
    for _ in range(25):
        model(np.ones((2, 1), dtype=np.int64), past_key_values=cache)
    assert cache._keys[0].data_ptr == place
    assert cache.capacity == 30
    model(np.ones((2, 1), dtype=np.int64), past_key_values=cache)
    assert cache.capacity == 60


def test_generate_in_bfloat16_up_to_the_context():
    config = GPT2Config(vocab_size=5, n_positions=4, n_embd=2, n_layer=1, n_head=1)
    assert GPT2LMHeadModel(config, dtype="bfloat16").generate([[1]]).shape == (1, 4)


# -- generation_config.json -------------------------------------------------------------------------


def sentencepiece_like(folder: Path) -> Tokenizer:
    """A tokenizer whose words carry their space, with bytes for characters that it does not know, and a
    chat template, as those of Llama."""
    words = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", *"abcdefgh", "▁ab", "ab", "cd", "▁cd", "<|user|>", "<|assistant|>"]
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": words.index(word), "content": word, "special": True, **dict.fromkeys(FLAGS, False)}
            for word in ("<s>", "</s>", "<|user|>", "<|assistant|>")
        ],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": [["a", "b"], ["▁", "ab"], ["c", "d"], ["▁", "cd"]],
            "byte_fallback": True,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return Tokenizer.from_pretrained(folder)


FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def test_text_pieces_have_the_spaces_and_characters_of_the_whole(tmp_path: Path):
    tokenizer = sentencepiece_like(tmp_path)
    assert not tokenizer.is_byte_level
    text = "ab cd abé ∂e😀 cd abcd  e f ab" * 3
    ids = tokenizer.encode(text)
    for cut in range(len(ids)):
        pieces = TextPieces(tokenizer, before=ids[:cut])
        shown = [pieces.push(token) for token in ids[cut:]]
        assert tokenizer.decode(ids[:cut]).rstrip("\ufffd") + "".join([*shown, pieces.finish()]) == text
        assert "\ufffd" not in "".join(shown)


def test_stream_generate_answers_messages(tmp_path: Path):
    tokenizer = sentencepiece_like(tmp_path)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=60, n_embd=8, n_layer=1, n_head=1)
    model = GPT2LMHeadModel(config).eval()
    messages = [{"role": "user", "content": "ab"}]
    cache = model.new_cache(1)
    options: dict[str, Any] = {"max_new_tokens": 5, "eos_token_id": []}
    answers = []
    for _ in range(3):
        chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        expected = model.generate([chat], **options)[0, len(chat) :].tolist()
        responses = list(stream_generate(model, tokenizer, messages, past_key_values=cache, **options))
        assert [response.token for response in responses] == expected
        assert responses[-1].prompt_tokens == len(chat)
        answers.append("".join(response.text for response in responses))
        messages += [{"role": "assistant", "content": answers[-1]}, {"role": "user", "content": "cd"}]
