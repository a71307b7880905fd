"""Encoders with every head against transformers: the same checkpoint, the same numbers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from encoder_models import (
    BATCH,
    CASES,
    CLASSES,
    CONFIGS,
    DROPOUTS,
    HEADS,
    MASK,
    MAX_POSITIONS,
    SEQUENCE,
    for_torch,
    logits_of,
    random_inputs,
    small_config,
    trio,
    without_labels,
)
from reference import Draws, assert_as_good_as_torch, to_float64

import pymodel as pm
import pymodel.models as our_models
from pymodel.models import AutoModel, from_pretrained
from pymodel.models.auto import FAMILIES
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.outputs import Deferred

DRAWS = 7
STEPS = 5
BARE = {model_type: FAMILIES[model_type].base for model_type in HEADS}


def check(ours: Any, expected: Sequence[Any], what: str, dtype: str = "float32") -> None:
    """Ours against those of transformers in the same dtype and in float64."""
    same, exact = expected
    assert_as_good_as_torch(ours, same, exact, dtype, what)


KEY_BIASES = ("key.bias", "k_lin.bias")


def add_gradients(draws: Draws, theirs: Any, exact: Any, ours: Any) -> None:
    """Takes the gradients of all parameters.

    That of the keys' bias is nothing but rounding noise, since the same number added to all scores
    changes no softmax: it is seen beside those of queries and values, as in a joint projection.
    """
    found = [{n: p.grad for n, p in model.named_parameters()} for model in (ours, theirs, exact)]
    assert set(found[0]) == set(found[1])
    for name, gradient in found[0].items():
        if gradient is None:
            assert found[1][name] is None, name
            continue
        names = [name]
        if name.endswith(KEY_BIASES):
            joint = (("key", "query", "value"), ("k_lin", "q_lin", "v_lin"))
            names = [name.replace(parts[0], part) for parts in joint for part in parts if parts[0] in name]
        draws.add(f"gradient of {name}", *(np.concatenate([to_float64(f[n]) for n in names]) for f in found))


def add_weights(draws: Draws, theirs: Any, exact: Any, ours: Any) -> None:
    """Takes the values of all parameters but those whose gradient is noise, which Adam moves by whole steps.

    They are the keys' biases, and those of the two ends of an answer: each is added to the logits of all
    positions, of which a softmax is taken.
    """
    found = [dict(model.named_parameters()) for model in (ours, theirs, exact)]
    for name in found[0]:
        if not name.endswith((*KEY_BIASES, "qa_outputs.bias")):
            draws.add(name, *(f[name] for f in found))


def losses_with_gradients(models: Sequence[Any], inputs: dict[str, Any], given: Any = None) -> list[Any]:
    """The loss of each model, ours last, and in its parameters new gradients.

    Args:
        given: labels for each model of transformers, where they differ from ours in dtype.
    """
    losses = []
    for number, model in enumerate(models):
        model.zero_grad()
        arguments = inputs if number == len(models) - 1 else for_torch(inputs)
        losses.append(model(**arguments, **({} if given is None else {"labels": given[number]})).loss)
        losses[-1].backward()
    return losses


@pytest.mark.parametrize(("name", "head"), CASES, ids=[f"{name} {head}" for name, head in CASES])
def test_encoder_loss_gradients_and_training_equal_transformers(tmp_path: Path, name: str, head: str):
    loaded = trio(tmp_path, name, head)
    loaded[2].train()  # nothing is dropped, but what packs and fuses in training does
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    draws = Draws()
    for draw in range(DRAWS):
        models = copy.deepcopy(loaded)
        optimizers: list[Any] = [torch.optim.AdamW(m.parameters(), **options) for m in models[:2]]
        optimizers.append(pm.optim.AdamW(models[2].parameters(), **options))
        for step in range(STEPS):
            inputs = random_inputs(models[0].config, head, draw * STEPS + step)
            theirs, exact, ours = losses_with_gradients(models, inputs)
            if step == 0:
                draws.add("loss", ours, theirs, exact)
                add_gradients(draws, *models)
            for optimizer in optimizers:
                optimizer.step()
        add_weights(draws, *models)
    draws.check()


@pytest.mark.parametrize(("name", "head"), CASES, ids=[f"{name} {head}" for name, head in CASES])
@pytest.mark.parametrize("side", ["none", "right", "left", "holes"])
def test_encoder_logits_equal_transformers_at_every_position(tmp_path: Path, name: str, head: str, side: str):
    mask = {
        "none": np.ones_like(MASK),
        "right": MASK,
        "left": MASK[:, ::-1].copy(),
        "holes": MASK * (np.arange(SEQUENCE) != 4),
    }[side]
    theirs, exact, ours = trio(tmp_path, name, head)
    inputs = without_labels(random_inputs(theirs.config, head)) | {"attention_mask": mask}
    with torch.no_grad():
        expected = [logits_of(model(**for_torch(inputs))) for model in (theirs, exact)]
    found = logits_of(ours(**inputs))
    assert list(found) == list(expected[0])
    for kind, logits in found.items():
        check(logits, [e[kind] for e in expected], kind)


@pytest.mark.parametrize("name", CONFIGS)
def test_encoder_states_pooling_and_attentions_equal_transformers(tmp_path: Path, name: str):
    bare = BARE[CONFIGS[name]["model_type"]]
    theirs, exact, ours = trio(tmp_path, name, bare)
    inputs = random_inputs(theirs.config, bare)
    inputs["position_ids"] = np.random.default_rng(2).integers(0, MAX_POSITIONS, (BATCH, SEQUENCE))
    asked = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        expected = [model(**for_torch(inputs), **asked) for model in (theirs, exact)]
    found = ours(**inputs, **asked, padding_is_read=False)  # read all the same: it was asked for
    assert found.keys() == [key for key in expected[0] if key not in ("past_key_values", "cross_attentions")]
    for key in found:
        each = [e[key] if isinstance(e[key], tuple) else (e[key],) for e in (found, *expected)]
        for mine, same, truth in zip(*each, strict=True):
            assert_as_good_as_torch(mine, same, truth, "float32", key)
    # The same without attention weights, whose sums are made in another order.
    again = ours(**inputs)
    for key in again:
        check(again[key], [e[key] for e in expected], key)


@pytest.mark.parametrize("name", CONFIGS)
def test_encoder_leaves_padding_out_when_nobody_reads_it(tmp_path: Path, name: str):
    bare = BARE[CONFIGS[name]["model_type"]]
    theirs, exact, ours = trio(tmp_path, name, bare)
    inputs = random_inputs(theirs.config, bare)
    with torch.no_grad():
        expected = [model(**for_torch(inputs)) for model in (theirs, exact)]
    tokens = ours.token_states(**inputs, padding_is_read=False)
    assert tokens.states.shape == (MASK.sum(), theirs.config.hidden_size)
    found = ours(**inputs, padding_is_read=False)
    kept = torch.from_numpy(MASK == 1)
    states = [e.last_hidden_state[kept] for e in expected]
    check(found.last_hidden_state.numpy()[MASK == 1], states, "states")
    assert not found.last_hidden_state.numpy()[MASK == 0].any()
    if found.pooler_output is not None:
        pooled = [e.pooler_output for e in expected]
        check(found.pooler_output, pooled, "pooled")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("lengths", [None, (17, 11, 1), (17, 17, 17)], ids=["no mask", "ragged", "full"])
def test_encoder_computes_first_tokens_alone_where_nobody_reads_the_others(
    tmp_path: Path, name: str, lengths: Sequence[int] | None
):
    ours = trio(tmp_path, name, BARE[CONFIGS[name]["model_type"]])[2]
    inputs = random_inputs(ours.config, "")
    del inputs["attention_mask"]
    if lengths is not None:
        inputs["attention_mask"] = (np.arange(SEQUENCE) < np.array(lengths)[:, None]).astype(np.int64)
    found, gradients = [], []
    narrow = {"only_first_is_read": True}
    for options in (narrow, {}, {**narrow, "output_attentions": True}):
        ours.zero_grad()
        tokens = ours.token_states(**inputs, padding_is_read=False, **options)
        first = tokens.first_tokens()
        assert first.shape == (BATCH, tokens.states.shape[-1])
        assert (tokens.states.shape == first.shape) == (options == narrow)
        (first * first).sum().backward()
        found.append(first.numpy())
        named = [(name, p.grad) for name, p in ours.named_parameters()]
        gradients.append({name: to_float64(gradient) for name, gradient in named if gradient is not None})
    for again, more in zip(found[1:], gradients[1:], strict=True):
        np.testing.assert_allclose(found[0], again, rtol=0, atol=1e-5)
        assert list(gradients[0]) == list(more)
        for name, expected in more.items():
            np.testing.assert_allclose(gradients[0][name], expected, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("model_type", HEADS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_encoder_activations_equal_transformers(tmp_path: Path, model_type: str, activation: str):
    head = FAMILIES[model_type].masked_lm
    key = "activation" if model_type == "distilbert" else "hidden_act"
    draws, kept = Draws(), torch.from_numpy(MASK == 1)
    theirs, exact, ours = trio(tmp_path, model_type, head, 0, **{key: activation})
    for seed in range(DRAWS):
        inputs = random_inputs(theirs.config, head, seed)
        with torch.no_grad():
            expected = [model(**for_torch(inputs)) for model in (theirs, exact)]
        output = ours(**inputs)
        draws.add("loss", output.loss, *(e.loss for e in expected))
        draws.add("logits", output.logits.numpy()[MASK == 1], *(e.logits[kept] for e in expected))
    draws.check()


FIRST = [(name, head) for name, head in CASES if name in HEADS]


@pytest.mark.parametrize(("name", "head"), FIRST, ids=[head for _, head in FIRST])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_encoder_low_precision_equals_transformers(tmp_path: Path, name: str, head: str, dtype: str):
    theirs, exact, _ = trio(tmp_path, name, head)
    ours = getattr(our_models, head).from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
    models = (theirs.to(getattr(torch, dtype)), exact, ours)
    with torch.no_grad():
        for parameter, rounded in zip(exact.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(rounded.double())
    draws = Draws()
    for draw in range(DRAWS):
        inputs = random_inputs(theirs.config, head, draw)
        with torch.no_grad():
            expected = [logits_of(m(**for_torch(without_labels(inputs)))) for m in (theirs, exact)]
        for kind, logits in logits_of(ours(**without_labels(inputs))).items():
            assert logits.dtype == dtype
            draws.add(kind, logits, *(e[kind] for e in expected))
        losses_with_gradients(models, inputs)
        add_gradients(draws, *models)
    draws.check(dtype)


@pytest.mark.parametrize(("name", "head"), CASES, ids=[f"{name} {head}" for name, head in CASES])
def test_encoder_saved_by_us_is_read_by_transformers(tmp_path: Path, name: str, head: str):
    theirs, _, ours = trio(tmp_path / "theirs", name, head)
    ours.save_pretrained(tmp_path / "ours")
    kind = getattr(transformers, head)
    back, report = kind.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    inputs = for_torch(without_labels(random_inputs(theirs.config, head)))
    with torch.no_grad():
        expected, found = (logits_of(model.eval()(**inputs)) for model in (theirs, back))
    for key in expected:
        assert torch.equal(found[key], expected[key])
    assert type(from_pretrained(tmp_path / "ours")).__name__ == head


@pytest.mark.parametrize("model_type", HEADS)
def test_encoder_checkpoints_are_read_with_other_heads(tmp_path: Path, model_type: str):
    masked, classifier = FAMILIES[model_type].masked_lm, FAMILIES[model_type].sequence_classification
    theirs, _, ours = trio(tmp_path / "masked", model_type, masked)
    inputs = without_labels(random_inputs(theirs.config, masked))
    with pytest.warns(UserWarning, match=r"classifier.* they have their initial values"):
        model = getattr(our_models, classifier).from_pretrained(tmp_path / "masked", num_labels=CLASSES)
    assert model(**inputs).logits.shape == (BATCH, CLASSES)
    # Of a classifier or a bare model, the encoder alone is taken.
    model.save_pretrained(tmp_path / "classifier")
    warnings.filterwarnings("ignore", ".*holds no pooler")  # which not every head needs
    states = [
        AutoModel.from_pretrained(tmp_path / "classifier")(**inputs).last_hidden_state.numpy(),
        ours.encoder_model(**inputs).last_hidden_state.numpy(),
    ]
    np.testing.assert_array_equal(*states)
    AutoModel.from_pretrained(tmp_path / "classifier").save_pretrained(tmp_path / "bare")
    with pytest.warns(UserWarning, match="initial values"):
        again = getattr(our_models, masked).from_pretrained(tmp_path / "bare")
    np.testing.assert_array_equal(again.encoder_model(**inputs).last_hidden_state.numpy(), states[0])


@pytest.mark.parametrize("model_type", HEADS)
@pytest.mark.parametrize("kind", ["regression", "several numbers", "several labels", "soft labels"])
def test_encoder_other_losses_equal_transformers(tmp_path: Path, model_type: str, kind: str):
    head = FAMILIES[model_type].sequence_classification
    rng = np.random.default_rng(3)
    kinds: dict[str, dict[str, Any]] = {
        "regression": {"num_labels": 1},
        "several numbers": {"num_labels": CLASSES, "problem_type": "regression"},
        "several labels": {"num_labels": CLASSES, "problem_type": "multi_label_classification"},
        "soft labels": {"num_labels": CLASSES},
    }
    changes = kinds[kind]
    labels = rng.standard_normal((BATCH, changes["num_labels"])).astype(np.float32)
    if "label" in kind:
        labels = (labels > 0).astype(np.float32) if kind == "several labels" else abs(np.tanh(labels))
    models = trio(tmp_path, model_type, head, 0, **changes)
    given = [torch.from_numpy(labels), torch.from_numpy(labels).double(), labels]
    if kind == "regression":
        given[-1] = labels[:, 0]  # one column may be left out
    draws = Draws()
    for draw in range(DRAWS):
        inputs = without_labels(random_inputs(models[0].config, head, draw))
        theirs, exact, ours = losses_with_gradients(models, inputs, given)
        draws.add("loss", ours, theirs, exact)
        add_gradients(draws, *models)
    draws.check()


@pytest.mark.parametrize("model_type", HEADS)
def test_encoder_logits_beside_a_loss_are_computed_when_they_are_read(tmp_path: Path, model_type: str):
    _, _, ours = trio(tmp_path, model_type, FAMILIES[model_type].masked_lm)
    inputs = random_inputs(ours.config, "MaskedLM")
    output = ours(**inputs)
    assert isinstance(vars(output)["logits"], Deferred)
    gradients = []
    for own in (False, True):
        ours.zero_grad()
        output = ours(**inputs)
        rows = output.logits.view(-1, ours.config.vocab_size)
        loss = pm.ops.cross_entropy(rows, pm.tensor(inputs["labels"].reshape(-1))) if own else output.loss
        loss.backward()
        gradients.append([p.grad.numpy().copy() for p in ours.parameters() if p.grad is not None])
    for built_in, mine in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, built_in, rtol=1e-3, atol=1e-6)
    # Labels at padding are looked at, and no labels at all give no loss.
    everywhere = ours(**{**inputs, "labels": inputs["input_ids"]})
    assert everywhere.logits.numpy()[MASK == 0].any()
    nothing = ours(**{**inputs, "labels": np.full_like(MASK, -100)})
    assert nothing.loss.item() == 0.0
    ours.zero_grad()
    nothing.loss.backward()


@pytest.mark.parametrize("model_type", HEADS)
def test_encoder_dropout_acts_in_training_only(tmp_path: Path, model_type: str):
    head = FAMILIES[model_type].sequence_classification
    theirs, _, plain = trio(tmp_path, model_type, head)
    inputs = without_labels(random_inputs(theirs.config, head))
    expected = plain(**inputs).logits.numpy()
    for name in DROPOUTS[model_type]:
        model = getattr(our_models, head).from_pretrained(tmp_path, **{name: 0.5})
        np.testing.assert_array_equal(model(**inputs).logits.numpy(), expected)
        model.train()
        dropped = model(**inputs).logits.numpy()
        assert not np.allclose(dropped, expected), name
        assert not np.array_equal(model(**inputs).logits.numpy(), dropped), name
        # So little that nothing is dropped: the paths with dropout compute what those without do.
        model = getattr(our_models, head).from_pretrained(tmp_path, **{name: 1e-12}).train()
        np.testing.assert_allclose(model(**inputs).logits.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_type", HEADS)
def test_encoder_initial_weights_have_the_deviation_of_the_configuration(model_type: str):
    pm.manual_seed(3)
    config = small_config(model_type, vocab_size=500, hidden_size=105)
    model = our_models.AutoModelForMaskedLM.from_config(config)
    for name, parameter in model.named_parameters():
        values = parameter.numpy()
        if name.endswith("bias"):
            assert not values.any(), name
        elif "norm" in name.lower():
            assert (values == 1).all(), name
        elif values.size > 1000:
            assert abs(values.std() / config.initializer_range - 1) < 0.1, name
    assert not model.encoder_model.embeddings.word_embeddings.weight.numpy()[config.pad_token_id].any()
