"""`pymodel generate` with models of several families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import seq2seq_models
from command_line import run
from hugging_face import saved_model

from pymodel.models import GPT2LMHeadModel, from_pretrained
from pymodel.text import Tokenizer

TEXT = ["the quick brown fox jumps over the lazy dog"] * 4


def tokenizer_for(folder: Path, size: int) -> Tokenizer:
    """A tokenizer of at most that many tokens, with a chat template."""
    tokenizer = Tokenizer.train(TEXT, vocab_size=size)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}answer:"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    return Tokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    saved_model(folder, vocab_size=270, n_positions=60, eos_token_id=256, bos_token_id=256)
    tokenizer_for(folder, 270)
    return folder


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    seq2seq_models.saved_model(folder, "bart", vocab_size=270, eos_token_id=256, max_position_embeddings=60)
    tokenizer_for(folder, 270)
    return folder


def written(folder: Path, *words: object) -> str:
    return run("generate", "--model", folder, "--device", "cpu", *words).stdout


def expected(folder: Path, prompt: str | list[int], **options: Any) -> str:
    model, tokenizer = from_pretrained(folder), Tokenizer.from_pretrained(folder)
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    rows = model.generate([ids], **options)
    return tokenizer.decode(rows[0, len(ids) if isinstance(model, GPT2LMHeadModel) else 1 :], True)


def test_generate_with_beams_shows_the_best(decoder):
    options = {"num_beams": 3, "length_penalty": 0.5, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2}
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    shown = written(decoder, "--prompt", "the fox", "--max-new-tokens", 12, *flags)
    assert shown == "the fox" + expected(decoder, "the fox", max_new_tokens=12, **options) + "\n"
    drawn = written(decoder, "--prompt", "the fox", *flags, "--seed", 4, "--max-new-tokens", 6)
    wanted = expected(decoder, "the fox", max_new_tokens=6, do_sample=True, seed=4, **options)
    assert drawn == f"the fox{wanted}\n"


def test_generate_takes_defaults_from_the_folder(decoder):
    path = decoder / "generation_config.json"
    before = path.read_text()
    try:
        settings = {"num_beams": 2, "max_length": 20, "do_sample": True, "temperature": 0.7}
        path.write_text(json.dumps({**json.loads(before), **settings}))
        # A decoder draws unless it is told otherwise, and one token at a time.
        wanted = expected(decoder, "the fox", do_sample=True, num_beams=1, seed=3)
        assert written(decoder, "--prompt", "the fox", "--seed", 3) == f"the fox{wanted}\n"
        wanted = expected(decoder, "the fox", do_sample=False, num_beams=1, max_new_tokens=5)
        shown = written(decoder, "--prompt", "the fox", "--greedy", "--max-new-tokens", 5)
        assert shown == f"the fox{wanted}\n"
    finally:
        path.write_text(before)


def test_generate_answers_a_question(decoder):
    tokenizer = Tokenizer.from_pretrained(decoder)
    messages = [{"role": "user", "content": "the fox?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    wanted = expected(decoder, ids, max_new_tokens=6, num_beams=1)
    words = ["--prompt", "the fox?", "--chat", "--greedy", "--max-new-tokens", 6]
    assert written(decoder, *words) == f"{wanted}\n"


def test_generate_translates_with_an_encoder_decoder(encoder_decoder):
    words = ["--prompt", "the lazy dog", "--max-new-tokens", 9]
    wanted = expected(encoder_decoder, "the lazy dog", max_new_tokens=9)
    assert written(encoder_decoder, *words) == f"{wanted}\n"
    wanted = expected(encoder_decoder, "the lazy dog", max_new_tokens=9, num_beams=4)
    assert written(encoder_decoder, *words, "--num-beams", 4) == f"{wanted}\n"
    path = encoder_decoder / "generation_config.json"
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "num_beams": 3, "length_penalty": -1.0}))
    wanted = expected(encoder_decoder, "the lazy dog", max_new_tokens=9)
    greedy = expected(encoder_decoder, "the lazy dog", max_new_tokens=9, num_beams=1)
    assert written(encoder_decoder, *words) == f"{wanted}\n"
    assert written(encoder_decoder, *words, "--greedy") == f"{greedy}\n"
    path.write_text(before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-new-tokens", -3), "max_new_tokens must be an integer of at least 0"),
        (("--temperature", 0), "temperature must be above 0"),
        (("--stop", ""), "stop_strings must be strings that are not empty"),
        (("--stop", "a", "--num-beams", 2), "stop_strings cannot be used with num_beams above 1"),
        (("--prompt", "jumps over the lazy dog " * 20), "the model's context holds 60"),
        (("--prompt", "jumps over the lazy dog " * 20, "--num-beams", 2), "the model's context holds 60"),
    ],
)
def test_generate_shows_nothing_on_an_error(decoder, words, message):
    result = run("generate", "--model", decoder, "--device", "cpu", "--prompt", "the fox", *words, code=2)
    assert message in result.stderr
    assert result.stdout == ""


def test_generate_bad_options_are_one_line(decoder, tmp_path):
    shown = run("generate", "--model", decoder, "--num-beams", 2, "--stop", "a", code=2).stderr
    assert "stop_strings cannot be used with num_beams above 1" in shown
    shown = run("generate", "--model", decoder, "--num-beams", 0, code=2).stderr
    assert "num_beams must be an integer" in shown
    model = GPT2LMHeadModel.from_pretrained(decoder)
    bare = tmp_path / "bare"
    model.transformer.save_pretrained(bare)
    tokenizer_for(bare, 270)
    assert "a GPT2Model writes no text" in run("generate", "--model", bare, code=2).stderr
