"""GPT-2 against transformers: the same checkpoint, the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hugging_face import CONFIGS, check_gradients, config_of, in_float64, reference_model, saved_model
from reference import Draws, assert_as_good_as_torch, gradient_of, to_float64

import pymodel as pm
from pymodel.models import GPT2Config, GPT2LMHeadModel, GPT2Model, KeyValueCache
from pymodel.models.outputs import Deferred

BATCH, SEQUENCE = 3, 17


def random_ids(vocab_size: int, shape: tuple[int, ...] = (BATCH, SEQUENCE), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, size=shape)


def labels_with_holes(ids: np.ndarray) -> np.ndarray:
    labels = ids.copy()
    labels[0, 3:6] = -100
    labels[:, -1] = -100
    return labels


def check(ours: Any, expected: Sequence[Any], what: str, dtype: str = "float32") -> None:
    """Ours against those of transformers in the same dtype and in float64."""
    same, exact = expected
    assert_as_good_as_torch(ours, same, exact, dtype, what)


@pytest.fixture(params=list(CONFIGS))
def pair(request, tmp_path: Path):
    """A model of transformers, the same in float64, and ours loaded from the saved one."""
    theirs = saved_model(tmp_path, request.param)
    return theirs, in_float64(theirs), GPT2LMHeadModel.from_pretrained(tmp_path)


def test_gpt2_logits_loss_and_gradients_equal_transformers(pair):
    theirs, exact, ours = pair
    draws = Draws()
    for seed in range(7):
        ids = random_ids(theirs.config.vocab_size, seed=seed)
        labels = labels_with_holes(ids)
        output = ours(ids, labels=labels)
        output.loss.backward()
        expected = []
        for model in (theirs, exact):
            model.zero_grad()
            expected.append(model(torch.from_numpy(ids), labels=torch.from_numpy(labels)))
            expected[-1].loss.backward()
        draws.add("logits", output.logits, *(e.logits for e in expected))
        draws.add("loss", output.loss, *(e.loss for e in expected))
        same, truth = dict(theirs.named_parameters()), dict(exact.named_parameters())
        assert {name for name, _ in ours.named_parameters()} == set(same)
        for name, parameter in ours.named_parameters():
            draws.add(name, parameter.grad, same[name].grad, truth[name].grad)
            parameter.grad = None
    draws.check()


def test_gpt2_ten_adamw_steps_equal_torch(pair):
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    draws = Draws()
    for draw in range(7):
        theirs, exact, ours = copy.deepcopy(pair)
        ours.train()
        ours_optimizer = pm.optim.AdamW(ours.parameters(), **options)
        models = {model: torch.optim.AdamW(model.parameters(), **options) for model in (theirs, exact)}
        for step in range(10):
            ids = random_ids(theirs.config.vocab_size, seed=10 * draw + step)
            ours(ids, labels=ids).loss.backward()
            ours_optimizer.step()
            ours_optimizer.zero_grad()
            for model, optimizer in models.items():
                model(torch.from_numpy(ids), labels=torch.from_numpy(ids)).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        same, truth = dict(theirs.named_parameters()), dict(exact.named_parameters())
        for name, parameter in ours.named_parameters():
            values = [to_float64(value) for value in (parameter, same[name], truth[name])]
            if name.endswith("c_attn.bias"):
                # The keys' bias has no gradient but rounding noise, which Adam scales up to whole
                # steps: no two programs agree on it, and no output depends on it.
                width = parameter.shape[0] // 3
                values = [np.r_[value[:width], value[2 * width :]] for value in values]
            draws.add(name, *values)
    draws.check()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gpt2_low_precision_equals_transformers(tmp_path: Path, dtype: str):
    theirs = saved_model(tmp_path)
    exact = in_float64(theirs)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
    theirs = theirs.to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter, rounded in zip(exact.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(rounded.double())
    ids = random_ids(61)
    output = ours(ids, labels=ids)
    expected = [model(torch.from_numpy(ids), labels=torch.from_numpy(ids)) for model in (theirs, exact)]
    assert output.logits.dtype == dtype
    check(output.logits, [e.logits for e in expected], "logits", dtype)
    output.loss.backward()
    for model in (theirs, exact):
        model(torch.from_numpy(ids), labels=torch.from_numpy(ids)).loss.backward()
    check_gradients(ours, theirs, exact, dtype)


@pytest.mark.parametrize("side", ["right", "left", "holes"])
@pytest.mark.parametrize("with_labels", [False, True])
def test_gpt2_attention_mask_equals_transformers(pair, side: str, with_labels: bool):
    theirs, exact, ours = pair
    ids = random_ids(theirs.config.vocab_size)
    lengths = np.array([SEQUENCE, 11, 1])
    mask = np.arange(SEQUENCE) < lengths[:, None]
    if side == "left":
        mask = mask[:, ::-1].copy()
    if side == "holes":
        mask[0, 4:7] = False
    labels = np.where(mask, ids, -100) if with_labels else None
    output = ours(ids, attention_mask=mask.astype(np.int64), labels=labels)
    expected = [
        model(
            torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            labels=None if labels is None else torch.from_numpy(labels),
        )
        for model in (theirs, exact)
    ]
    logits = (output.logits.numpy()[mask], *(e.logits[torch.from_numpy(mask)] for e in expected))
    check(logits[0], logits[1:], "logits")
    if with_labels:
        check(output.loss, [e.loss for e in expected], "loss")


def test_gpt2_right_padding_that_is_read_equals_transformers(pair):
    theirs, exact, ours = pair
    ids = random_ids(theirs.config.vocab_size)
    mask = (np.arange(SEQUENCE) < np.array([[SEQUENCE], [9], [4]])).astype(np.int64)
    output = ours(ids, attention_mask=mask, labels=ids)
    arguments = {"attention_mask": torch.from_numpy(mask), "labels": torch.from_numpy(ids)}
    expected = [model(torch.from_numpy(ids), **arguments) for model in (theirs, exact)]
    check(output.logits, [e.logits for e in expected], "logits")
    check(output.loss, [e.loss for e in expected], "loss")


def test_gpt2_position_ids_and_hidden_states_equal_transformers(pair):
    theirs, exact, ours = pair
    ids = random_ids(theirs.config.vocab_size)
    positions = random_ids(23, seed=2)
    output = ours(ids, position_ids=positions, output_hidden_states=True)
    arguments = {"position_ids": torch.from_numpy(positions), "output_hidden_states": True}
    expected = [model(torch.from_numpy(ids), **arguments) for model in (theirs, exact)]
    assert len(output.hidden_states) == len(expected[0].hidden_states)
    for states in zip(output.hidden_states, *(e.hidden_states for e in expected), strict=True):
        check(states[0], states[1:], "hidden states")


@pytest.mark.parametrize("pieces", [(17,), (1,) * 17, (5, 1, 7, 4)])
def test_gpt2_cache_gives_the_logits_of_the_whole_sequence(tmp_path: Path, pieces: tuple[int, ...]):
    theirs = saved_model(tmp_path)
    exact = in_float64(theirs)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path)
    ids = random_ids(61)
    cache: KeyValueCache | None = None
    logits, start = [], 0
    for piece in pieces:
        output = ours(ids[:, start : start + piece], past_key_values=cache, use_cache=True)
        cache, start = output.past_key_values, start + piece
        logits.append(output.logits.numpy())
    expected = [model(torch.from_numpy(ids)).logits for model in (theirs, exact)]
    check(np.concatenate(logits, axis=1), expected, "logits")
    assert cache is not None
    assert cache.get_seq_length() == SEQUENCE


def test_gpt2_cache_takes_padding_on_either_side(tmp_path: Path):
    saved_model(tmp_path)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path)
    lengths = [6, 2, 4]
    rows = [random_ids(61, (length + 3,), seed) for seed, length in enumerate(lengths)]
    alone = [ours(row[None]).logits.numpy()[0] for row in rows]
    for left in (False, True):
        ids = np.zeros((3, 6), dtype=np.int64)
        mask = np.zeros((3, 6), dtype=np.int64)
        for row, length, target, kept in zip(rows, lengths, ids, mask, strict=True):
            place = slice(6 - length, 6) if left else slice(0, length)
            target[place], kept[place] = row[:length], 1
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
        output = ours(ids, attention_mask=mask, position_ids=positions, use_cache=True)
        last = np.stack([output.logits.numpy()[i, -1 if left else n - 1] for i, n in enumerate(lengths)])
        steps = [last]
        for step in range(3):
            new = np.array([[row[length + step]] for row, length in zip(rows, lengths, strict=True)])
            mask = np.concatenate([mask, np.ones((3, 1), dtype=np.int64)], axis=1)
            output = ours(
                new,
                attention_mask=mask if left else None,
                position_ids=np.array(lengths)[:, None] + step,
                past_key_values=output.past_key_values,
            )
            steps.append(output.logits.numpy()[:, -1])
        for i, length in enumerate(lengths):
            np.testing.assert_allclose(np.stack(steps)[:, i], alone[i][length - 1 :], rtol=1e-4, atol=1e-5)


def test_gpt2_logits_to_keep_selects_positions(tmp_path: Path):
    saved_model(tmp_path)
    ours = GPT2LMHeadModel.from_pretrained(tmp_path)
    ids = random_ids(61)
    whole = ours(ids).logits.numpy()
    last = ours(ids, logits_to_keep=2).logits.numpy()
    np.testing.assert_allclose(last, whole[:, -2:], rtol=1e-5, atol=1e-6)
    picked = ours(ids, logits_to_keep=np.array([0, 5, 16])).logits.numpy()
    np.testing.assert_allclose(picked[:, 0], whole[np.arange(3), [0, 5, 16]], rtol=1e-5, atol=1e-6)


def test_gpt2_bare_model_and_output_access(tmp_path: Path):
    theirs = saved_model(tmp_path)
    ours = GPT2Model.from_pretrained(tmp_path)
    ids = random_ids(61)
    states = [m.transformer(torch.from_numpy(ids)).last_hidden_state for m in (theirs, in_float64(theirs))]
    check(ours(ids).last_hidden_state, states, "hidden states")
    output = GPT2LMHeadModel.from_pretrained(tmp_path)(ids.tolist(), labels=pm.tensor(ids))
    assert output.keys() == ["loss", "logits"]
    assert output[0] is output["loss"] is output.loss
    assert output[:2] == output.to_tuple() == (output.loss, output.logits)
    assert "past_key_values" not in output
    with pytest.raises(KeyError, match="past_key_values"):
        output["past_key_values"]


def test_gpt2_logits_beside_a_loss_are_computed_when_they_are_read(tmp_path: Path):
    saved_model(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    ids = random_ids(61)
    output = model(ids, labels=ids)
    assert isinstance(vars(output)["logits"], Deferred)
    assert output.keys() == ["loss", "logits"]  # which looks, but does not read
    assert isinstance(vars(output)["logits"], Deferred)
    np.testing.assert_array_equal(output.logits.numpy(), model(ids).logits.numpy())
    assert output.logits is output["logits"]
    # They are part of the graph: a loss of one's own has the gradient of the built-in one.
    gradients = []
    for own in (False, True):
        model.zero_grad()
        output = model(ids, labels=ids)
        loss = output.loss
        if own:
            rows = output.logits[:, :-1].reshape(-1, 61)
            loss = pm.ops.cross_entropy(rows, pm.tensor(ids[:, 1:].reshape(-1)))
        loss.backward()
        gradients.append([gradient_of(parameter).numpy().copy() for parameter in model.parameters()])
    for built_in, mine in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, built_in, rtol=1e-3, atol=1e-6)


def test_gpt2_initial_weights_have_the_deviations_of_the_paper():
    pm.manual_seed(3)
    config = GPT2Config(vocab_size=500, n_positions=64, n_embd=96, n_layer=4, n_head=4)
    model = GPT2LMHeadModel(config)
    theirs = reference_model(config_of("odd"))
    for name, parameter in model.named_parameters():
        values = parameter.numpy()
        if name.endswith("bias"):
            assert not values.any(), name
        elif "ln_" in name:
            assert (values == 1).all(), name
        else:
            wanted = 0.02 / np.sqrt(8) if name.endswith("c_proj.weight") else 0.02
            assert abs(values.std() / wanted - 1) < 0.05, name
            assert abs(values.mean()) < wanted / 10, name
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    assert {n for n, _ in model.named_parameters() if ".h.0." in n} == {
        n for n, _ in theirs.named_parameters() if ".h.0." in n
    }


def trained_bits(threads: int) -> bytes:
    before = pm.get_num_threads()
    pm.set_num_threads(threads)
    try:
        pm.manual_seed(11)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=40, n_embd=48, n_layer=2, n_head=3))
        optimizer = pm.optim.AdamW(model.parameters(), lr=1e-3)
        model.train()
        for step in range(5):
            ids = random_ids(61, (4, 37), seed=step)
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return b"".join(parameter.numpy().tobytes() for parameter in model.parameters())
    finally:
        pm.set_num_threads(before)


def test_gpt2_training_with_dropout_gives_the_same_bits_on_any_number_of_threads():
    first = trained_bits(1)
    assert first == trained_bits(1)
    assert first == trained_bits(2)


def test_gpt2_dropout_acts_in_training_only(tmp_path: Path):
    saved_model(tmp_path)
    ids = random_ids(61)
    plain = GPT2LMHeadModel.from_pretrained(tmp_path)(ids).logits.numpy()
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        changes: dict[str, Any] = {name: 0.5}
        model = GPT2LMHeadModel.from_pretrained(tmp_path, **changes)
        np.testing.assert_array_equal(model(ids).logits.numpy(), plain)
        model.train()
        dropped = model(ids).logits.numpy()
        assert not np.allclose(dropped, plain), name
        assert not np.array_equal(model(ids).logits.numpy(), dropped), name


def test_gpt2_dropout_on_the_residual_keeps_expected_sums(tmp_path: Path):
    """With resid_pdrop tiny the path through pending branches computes what the fused one does."""
    theirs = saved_model(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path, resid_pdrop=1e-12)
    model.train()
    ids = random_ids(61)
    output = model(ids, labels=ids, output_hidden_states=True)
    output.loss.backward()
    exact = in_float64(theirs)
    arguments = {"labels": torch.from_numpy(ids), "output_hidden_states": True}
    expected = [m(torch.from_numpy(ids), **arguments) for m in (theirs, exact)]
    for states in zip(output.hidden_states, *(e.hidden_states for e in expected), strict=True):
        check(states[0], states[1:], "hidden states")
    for e in expected:
        e.loss.backward()
    check_gradients(model, theirs, exact)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_ids": [1, 2, 3]}, ValueError, r"input_ids must have shape \(batch, sequence\), got \(3,\)"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "rows have unequal lengths"),
        ({"input_ids": [[1.0, 2.0]]}, TypeError, "input_ids must be integers, got float64"),
        ({"input_ids": [[1, 61]]}, ValueError, "between 0 and 60, got 61"),
        ({"input_ids": [[1, -1]]}, ValueError, "between 0 and 60, got -1"),
        ({"input_ids": [[1] * 24]}, ValueError, "context of 23 tokens"),
        ({"input_ids": [[1, 2]], "labels": [[1]]}, ValueError, r"labels must have the shape \(1, 2\)"),
        (
            {"input_ids": [[1, 2]], "labels": [[1, 61]]},
            ValueError,
            "labels must lie between 0 and 60 or -100",
        ),
        ({"input_ids": [[1, 2]], "labels": [[-100, -7]]}, ValueError, "or -100, got -7"),
        ({"input_ids": [[1, 2]], "labels": [[-100, 61]]}, ValueError, "or -100, got 61"),
        (
            {"input_ids": [[1, 2]], "attention_mask": [[1]]},
            ValueError,
            r"attention_mask must have shape \(1, 2\)",
        ),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]}, ValueError, "attention_mask must hold 1"),
        ({"input_ids": [[1, 2]], "position_ids": [[0, 23]]}, ValueError, "between 0 and 22, got up to 23"),
        ({"input_ids": [[1, 2]], "position_ids": [[-1, 0]]}, ValueError, "positions must lie between 0"),
        ({"input_ids": [[1, 2]], "position_ids": [[0]]}, ValueError, "position_ids must have shape"),
        (
            {"input_ids": [[1, 2]], "labels": [[1, 2]], "logits_to_keep": 1},
            ValueError,
            "labels need the logits",
        ),
    ],
)
def test_gpt2_bad_input_is_named(arguments, error, message):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=23, n_embd=24, n_layer=1, n_head=3))
    with pytest.raises(error, match=message):
        model(**arguments)


def test_gpt2_cache_errors_are_named():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=5, n_embd=24, n_layer=1, n_head=3)).eval()
    cache = model([[1, 2, 3, 4]], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="past_key_values holds 1 rows, input_ids 2"):
        model([[1], [2]], past_key_values=cache)
    with pytest.raises(ValueError, match="context of 5 tokens"):
        model([[1, 2]], past_key_values=cache)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_gpt2_empty_batches_give_empty_logits(shape):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=23, n_embd=24, n_layer=1, n_head=3)).eval()
    assert model(np.zeros(shape, dtype=np.int64)).logits.shape == (*shape, 61)
