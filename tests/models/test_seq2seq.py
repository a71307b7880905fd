"""Encoder-decoders against transformers: the same checkpoint, the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import Draws, assert_as_good_as_torch
from seq2seq_models import (
    CASES,
    FIRST,
    SOURCE,
    TARGET,
    batch,
    in_float64,
    in_torch,
    saved_model,
    tiny,
    trained_parameters,
    trio,
)
from tiny_training import one_thread  # noqa: F401

import pymodel as pm
from pymodel.models import AutoModelForSeq2SeqLM
from pymodel.models.outputs import Deferred

# Adding the same number to all keys' scores changes no softmax: the gradient of the keys' bias is nothing but
# rounding noise, in which no two programs agree.
KEYS_BIAS = "k_proj.bias"
DRAWS = 11


def check(found: Sequence[Any], what: str, dtype: str = "float32") -> None:
    """Ours, that of transformers in the same dtype, and that in float64."""
    ours, same, exact = found
    assert_as_good_as_torch(ours, same, exact, dtype, what)


def run_backward(model: Any, arrays: dict[str, Any]) -> Any:
    """The output of a call with fresh gradients, in either library."""
    model.zero_grad()
    output = model(**arrays)
    output.loss.backward()
    return output


@pytest.mark.parametrize("name", CASES)
def test_seq2seq_logits_loss_and_gradients_equal_transformers(tmp_path: Path, name: str):
    theirs, exact, ours = trio(tmp_path, name)
    draws = Draws()
    for seed in range(DRAWS):
        arrays = batch(seed)
        output = run_backward(ours, arrays)
        same, truth = (run_backward(model, in_torch(arrays)) for model in (theirs, exact))
        draws.add("logits", output.logits, same.logits, truth.logits)
        draws.add("loss", output.loss, same.loss, truth.loss)
        expected = [trained_parameters(model) for model in (theirs, exact)]
        assert {n for n, _ in ours.named_parameters()} == set(expected[0])
        for parameter_name, parameter in ours.named_parameters():
            gradients = [parameters[parameter_name].grad for parameters in expected]
            assert (parameter.grad is None) == (gradients[0] is None), parameter_name
            if parameter_name.endswith(KEYS_BIAS):
                assert np.abs(parameter.grad.numpy()).max() < 1e-6, parameter_name
            elif parameter.grad is not None:
                draws.add(parameter_name, parameter.grad, *gradients)
    draws.check()


@pytest.mark.parametrize("name", [*FIRST, *(name for name in CASES if name.endswith("untied"))])
def test_seq2seq_five_adamw_steps_equal_torch(tmp_path: Path, name: str):
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    loaded = trio(tmp_path, name)
    draws = Draws()
    for draw in range(DRAWS):
        theirs, exact, ours = copy.deepcopy(loaded)
        optimizer = pm.optim.AdamW(ours.parameters(), **options)
        models = {m: torch.optim.AdamW(trained_parameters(m).values(), **options) for m in (theirs, exact)}
        for step in range(5):
            arrays = batch(10 * draw + step)
            run_backward(ours, arrays)
            optimizer.step()
            for model, torch_optimizer in models.items():
                run_backward(model, in_torch(arrays))
                torch_optimizer.step()
        same, truth = trained_parameters(theirs), trained_parameters(exact)
        for parameter_name, parameter in ours.named_parameters():
            # Adam scales the noise up to whole steps.
            if not parameter_name.endswith(KEYS_BIAS):
                draws.add(parameter_name, parameter, same[parameter_name], truth[parameter_name])
    draws.check()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_low_precision_equals_transformers(tmp_path: Path, name: str, dtype: str):
    theirs = saved_model(tmp_path, name)
    ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=dtype)
    theirs = (
        type(theirs)
        .from_pretrained(tmp_path, dtype=getattr(torch, dtype), attn_implementation="eager")
        .eval()
    )
    exact = in_float64(theirs)
    dtypes = {n: str(p.dtype).removeprefix("torch.") for n, p in theirs.named_parameters()}
    assert all(p.dtype == dtypes[n] for n, p in ours.named_parameters())
    draws = Draws()
    for seed in range(DRAWS):
        arrays = batch(seed)
        output = run_backward(ours, arrays)
        same, truth = (run_backward(model, in_torch(arrays)) for model in (theirs, exact))
        assert output.logits.dtype == dtype
        draws.add("logits", output.logits, same.logits, truth.logits)
        gradients = [trained_parameters(model) for model in (theirs, exact)]
        for parameter_name, parameter in ours.named_parameters():
            expected = [parameters[parameter_name].grad for parameters in gradients]
            if not parameter_name.endswith(KEYS_BIAS):
                draws.add(parameter_name, parameter.grad, *expected)
    draws.check(dtype)


@pytest.mark.parametrize("target_padding", [False, True])
@pytest.mark.parametrize("side", ["", "right", "left", "holes"])
@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_masks_equal_transformers(tmp_path: Path, name: str, side: str, target_padding: bool):
    theirs, exact, ours = trio(tmp_path, name)
    arrays = batch(source_padding=side, target_padding=target_padding)
    output = ours(**arrays)
    with torch.no_grad():
        expected = [model(**in_torch(arrays)) for model in (theirs, exact)]
    check([x.loss for x in (output, *expected)], "loss")
    mask = arrays.get("decoder_attention_mask", np.ones((3, TARGET))).astype(bool)
    check([x.logits.numpy()[mask] for x in (output, *expected)], "logits")
    source = np.asarray(arrays.get("attention_mask", np.ones((3, SOURCE)))).astype(bool)
    check([x.encoder_last_hidden_state.numpy()[source] for x in (output, *expected)], "source")


def test_seq2seq_padding_of_the_target_on_the_left_equals_transformers(tmp_path: Path):
    theirs, exact, ours = trio(tmp_path, "bart")
    arrays = batch(target_padding=True)
    mask = arrays["decoder_attention_mask"][:, ::-1].copy()
    arrays = {**arrays, "decoder_attention_mask": mask, "labels": np.where(mask, arrays["labels"], -100)}
    arrays["decoder_input_ids"] = np.random.default_rng(0).integers(3, 61, mask.shape)
    output = ours(**arrays)
    with torch.no_grad():
        expected = [model(**in_torch(arrays)) for model in (theirs, exact)]
    check([x.logits.numpy()[mask == 1] for x in (output, *expected)], "logits")


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_hidden_states_and_attentions_equal_transformers(tmp_path: Path, name: str):
    theirs, exact, ours = trio(tmp_path, name)
    arrays: dict[str, Any] = {**batch(), "output_hidden_states": True, "output_attentions": True}
    output = ours(**arrays)
    with torch.no_grad():
        expected = [model(**in_torch(arrays)) for model in (theirs, exact)]
    mask = arrays["attention_mask"].astype(bool)
    for field in (
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
        "encoder_hidden_states",
        "encoder_attentions",
    ):
        found = [getattr(x, field) for x in (output, *expected)]
        assert len(found[0]) == len(found[1])
        for values in zip(*found, strict=True):
            arrays_found = [value.numpy() for value in values]
            if field == "encoder_hidden_states":
                arrays_found = [value[mask] for value in arrays_found]
            if field == "encoder_attentions":  # of queries that are tokens
                arrays_found = [value.transpose(0, 2, 1, 3)[mask] for value in arrays_found]
            check(arrays_found, field)
    # Shown or not, the numbers are the same, and so is what packing without padding makes of them.
    plain = ours(**batch())
    np.testing.assert_allclose(output.logits.numpy(), plain.logits.numpy(), atol=1e-5)
    states = ours(**batch(), output_hidden_states=True).encoder_hidden_states
    for packed, padded in zip(states, output.encoder_hidden_states, strict=True):
        np.testing.assert_allclose(packed.numpy()[mask], padded.numpy()[mask], atol=1e-5)
        assert not packed.numpy()[~mask].any()


@pytest.mark.parametrize("pieces", [(9,), (1,) * 9, (4, 1, 3, 1)])
@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_cache_gives_the_logits_of_the_whole_target(
    tmp_path: Path, name: str, pieces: tuple[int, ...]
):
    theirs, exact, ours = trio(tmp_path, name)
    arrays = batch()
    labels = arrays.pop("labels")
    target = np.where(labels < 0, 5, labels)
    encoded = ours.get_encoder()(arrays["input_ids"], arrays["attention_mask"])
    cache, logits, start = None, [], 0
    for piece in pieces:
        output = ours(
            encoder_outputs=encoded if start else encoded.to_tuple(),
            attention_mask=arrays["attention_mask"],
            decoder_input_ids=target[:, start : start + piece],
            past_key_values=cache,
            use_cache=True,
        )
        cache, start = output.past_key_values, start + piece
        logits.append(output.logits.numpy())
    with torch.no_grad():
        expected = [m(**in_torch({**arrays, "decoder_input_ids": target})).logits for m in (theirs, exact)]
    check([np.concatenate(logits, axis=1), *expected], "logits")
    assert cache is not None
    assert cache.get_seq_length() == TARGET


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_seq2seq_generates_the_tokens_of_transformers(tmp_path: Path, name: str, beams: int):
    theirs, _, ours = trio(tmp_path, name)
    arrays = batch()
    # No token comes twice: a random model repeats itself, whatever the source.
    options: dict[str, Any] = {"max_new_tokens": 12, "min_new_tokens": 4, "no_repeat_ngram_size": 1}
    options["num_beams"] = beams
    mask = arrays["attention_mask"]
    expected = theirs.generate(
        torch.from_numpy(arrays["input_ids"]), attention_mask=torch.from_numpy(mask), **options
    ).numpy()
    found = ours.generate(arrays["input_ids"], attention_mask=mask, **options)
    np.testing.assert_array_equal(found, expected)
    assert len({tuple(row) for row in found.tolist()}) > 1, "the sources make no difference"
    for row, (ids, length) in enumerate(zip(arrays["input_ids"], mask.sum(axis=1), strict=True)):
        alone = ours.generate(ids[None, :length], **options)[0]
        np.testing.assert_array_equal(alone, found[row, : len(alone)])


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_generates_the_same_without_a_cache(tmp_path: Path, name: str):
    saved_model(tmp_path, name)
    ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    ids = batch()["input_ids"]
    for beams in (1, 2):
        with_cache, without = (
            ours.generate(ids, max_new_tokens=8, num_beams=beams, use_cache=use) for use in (True, False)
        )
        np.testing.assert_array_equal(with_cache, without)


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_logits_are_computed_when_read_and_loss_smooths_labels(tmp_path: Path, name: str):
    theirs, exact, ours = trio(tmp_path, name)
    arrays = batch()
    output = ours(**arrays)
    assert isinstance(vars(output)["logits"], Deferred)
    assert output.keys()[:2] == ["loss", "logits"]
    smoothed = ours(**arrays, label_smoothing=0.1).loss
    losses = []
    for model in (theirs, exact):
        with torch.no_grad():
            logits = model(**in_torch(arrays)).logits
        labels = torch.from_numpy(arrays["labels"]).reshape(-1)
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, label_smoothing=0.1))
    check([smoothed, *losses], "smoothed loss")
    target = np.where(arrays["labels"] < 0, 4, arrays["labels"])
    arrays = {"input_ids": arrays["input_ids"], "decoder_input_ids": target}
    whole = ours(**arrays).logits.numpy()
    np.testing.assert_allclose(ours(**arrays, logits_to_keep=2).logits.numpy(), whole[:, -2:], atol=1e-5)
    picked = ours(**arrays, logits_to_keep=np.array([0, 4, 8])).logits.numpy()
    np.testing.assert_allclose(picked[:, 0], whole[np.arange(3), [0, 4, 8]], atol=1e-5)


_DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop")
DROPOUTS = {"bart": _DROPOUTS, "marian": _DROPOUTS, "t5": ("dropout_rate",)}


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_dropout_acts_in_training_only(tmp_path: Path, name: str):
    saved_model(tmp_path, name)
    arrays = batch()
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)(**arrays).logits.numpy()
    for key in DROPOUTS[name]:
        changes: dict[str, Any] = {key: 0.6}
        model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, **changes)
        np.testing.assert_array_equal(model(**arrays).logits.numpy(), plain)
        model.train()
        pm.manual_seed(0)
        drawn = [model(**arrays).logits.numpy() for _ in range(6)]
        assert any(not np.allclose(d, plain) for d in drawn), key
        assert any(not np.array_equal(d, drawn[0]) for d in drawn[1:]), key
        pm.manual_seed(0)
        np.testing.assert_array_equal(model(**arrays).logits.numpy(), drawn[0])
        # Dropping almost nothing goes the way of dropping, and must come to the plain result.
        barely: dict[str, Any] = {key: 1e-12}
        model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, **barely).train()
        np.testing.assert_allclose(model(**arrays).logits.numpy(), plain, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"input_ids": [1, 2], "labels": [[1]]},
            ValueError,
            r"input_ids must have shape \(batch, sequence\)",
        ),
        (
            {"input_ids": [[1, 61]], "labels": [[1]]},
            ValueError,
            "input_ids must lie between 0 and 60, got 61",
        ),
        ({"labels": [[1, 61]]}, ValueError, "labels must lie between 0 and 60 or -100, got 61"),
        ({"labels": [1]}, ValueError, r"labels must have shape \(batch, sequence\)"),
        ({"labels": [[1.0]]}, TypeError, "labels must be integers"),
        ({"decoder_input_ids": [[1, 61]]}, ValueError, "decoder_input_ids must lie between 0 and 60, got 61"),
        ({"decoder_input_ids": [[1], [2]]}, ValueError, "decoder_input_ids has 2 rows and the source 1"),
        (
            {"decoder_input_ids": [[1]], "labels": [[1, 2]]},
            ValueError,
            r"labels must have the shape \(1, 1\)",
        ),
        ({"labels": [[1]], "logits_to_keep": 1}, ValueError, "labels need the logits of every position"),
        ({"labels": [[1]], "attention_mask": [[1]]}, ValueError, r"attention_mask must have shape \(1, 2\)"),
        (
            {"labels": [[1]], "decoder_attention_mask": [[1, 0]]},
            ValueError,
            r"decoder_attention_mask must have shape \(1, 1\)",
        ),
        ({"labels": [[1]], "input_ids": None}, ValueError, "input_ids: the source is missing"),
        ({"labels": [[1]], "encoder_outputs": 3}, TypeError, "encoder_outputs must be what get_encoder"),
    ],
)
@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_bad_input_is_named(name: str, arguments: dict[str, Any], error, message: str):
    model = tiny(name)
    with pytest.raises(error, match=message):
        model(**{"input_ids": [[5, 6]], **arguments})


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize(("source", "target"), [((0, 4), (0, 3)), ((2, 3), (2, 0)), ((2, 0), (2, 3))])
def test_seq2seq_empty_batches_give_empty_logits(name: str, source: tuple[int, int], target: tuple[int, int]):
    model = tiny(name)
    ids, decoder_ids = np.full(source, 5), np.full(target, 5)
    assert model(ids, decoder_input_ids=decoder_ids).logits.shape == (*target, 61)


@pytest.mark.parametrize("name", FIRST)
def test_seq2seq_training_gives_the_same_bits_on_any_number_of_threads(name: str):
    def trained(threads: int) -> bytes:
        pm.set_num_threads(threads)
        pm.manual_seed(3)
        model = tiny(name).train()
        optimizer = pm.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(3):
            run_backward(model, batch(step))
            optimizer.step()
        return b"".join(parameter.numpy().tobytes() for parameter in model.parameters())

    assert trained(1) == trained(2)
