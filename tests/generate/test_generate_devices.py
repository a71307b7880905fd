"""Generation on a device gives the tokens of the CPU."""

import numpy as np
import pytest
from devices import ACCELERATORS
from tiny_training import one_thread, tiny_model  # noqa: F401

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"do_sample": True, "temperature": 2.0, "top_k": 20, "seed": 3},
        {"repetition_penalty": 1.5},
        {"num_beams": 3, "num_return_sequences": 2},
        {"num_beams": 2, "do_sample": True, "seed": 1, "use_cache": False},
        {"do_sample": True, "num_return_sequences": 2, "seed": 2},
    ],
    ids=["greedy", "without cache", "sampled", "penalised", "beams", "drawn beams", "samples"],
)
def test_generate_on_a_device_equals_the_cpu(name, options):
    model = tiny_model().eval()
    expected = model.generate(PROMPTS, max_new_tokens=6, **options)
    got = model.to(name).generate(PROMPTS, max_new_tokens=6, **options)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_generate_model_files_go_straight_to_a_device(name, dtype, tmp_path):
    model = tiny_model(dtype=dtype)
    model.to(name).save_pretrained(tmp_path)
    there = type(model).from_pretrained(tmp_path, device=name)
    here = type(model).from_pretrained(tmp_path)
    for key, parameter in there.state_dict().items():
        assert parameter.device == name
        assert parameter.dtype == dtype
        np.testing.assert_array_equal(parameter.numpy(), here.state_dict()[key].numpy())
        np.testing.assert_array_equal(parameter.numpy(), model.state_dict()[key].numpy())
    half = type(model).from_pretrained(tmp_path, "float16", name)
    assert {p.dtype for p in half.parameters()} == {"float16"}


@pytest.mark.parametrize("name", ACCELERATORS)
def test_conversation_on_a_device_equals_the_cpu(name):
    model = tiny_model().eval()
    answers = []
    for place in ("cpu", name):
        model.to(place)
        cache, rows = model.new_cache(2), [[5, 6, 7], [8]]
        for _ in range(2):
            rows = model.generate(rows, past_key_values=cache, max_new_tokens=3, eos_token_id=[]).tolist()
            rows = [[*row, 9] for row in rows]
        answers.append(rows)
    assert answers[0] == answers[1]
