"""GPT-2 trained on the emulated GPU takes the steps that it takes on the CPU."""

import numpy as np
import pytest
from tiny_training import one_thread  # noqa: F401

import pymodel as pm
from pymodel import _core
from pymodel.models import GPT2Config, GPT2LMHeadModel

STEPS = 10
HAS_EMULATOR = hasattr(_core, "simt_set_schedule")


def train(device: str, dtype: str) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of ten steps with dropout and clipping, and the weights after them."""
    config = GPT2Config(vocab_size=97, n_positions=24, n_embd=40, n_layer=3, n_head=4)
    pm.manual_seed(7)
    model = GPT2LMHeadModel(config, dtype, device=device)
    optimizer = pm.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    rng = np.random.default_rng(1)
    losses = []
    for _ in range(STEPS):
        batch = pm.tensor(rng.integers(0, 97, (3, 24)), device=device)
        loss = model(batch, labels=batch).loss
        loss.backward()
        pm.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {n: p.to("float32").numpy().copy() for n, p in model.state_dict().items()}


@pytest.mark.skipif(not HAS_EMULATOR, reason="built without the emulator (PYMODEL_SIMT=OFF)")
def test_gpt2_trains_on_the_emulator_as_on_the_cpu() -> None:
    cpu_losses, cpu_weights = train("cpu", "float32")
    simt_losses, simt_weights = train("simt", "float32")
    assert cpu_losses[-1] < cpu_losses[0]
    np.testing.assert_allclose(simt_losses, cpu_losses, rtol=2e-6)
    for name, expected in cpu_weights.items():
        found = simt_weights[name]
        if name.endswith("attn.c_attn.bias"):
            # The same number added to all keys' scores changes no softmax: these gradients are pure
            # rounding, which AdamW scales up to whole steps.
            found, expected = (np.delete(w, np.s_[40:80]) for w in (found, expected))
        # AdamW divides by the root of the second moment: a gradient near zero passes its rounding
        # on to the weight at up to the learning rate, 1e-3.
        difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert difference < 1e-5, f"{name} differs by {difference:.1e}"


@pytest.mark.skipif(not HAS_EMULATOR, reason="built without the emulator (PYMODEL_SIMT=OFF)")
def test_gpt2_trains_in_bfloat16_on_the_emulator() -> None:
    cpu_losses, _ = train("cpu", "bfloat16")
    simt_losses, _ = train("simt", "bfloat16")
    # Both round every activation to 8 bits, at other places of their sums.
    np.testing.assert_allclose(simt_losses, cpu_losses, rtol=4e-3)
    assert simt_losses[-1] < simt_losses[0]
