"""Encoders trained on the emulated GPU take the steps that they take on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from encoder_models import CLASSES, DROPOUTS, HEADS, random_inputs, small_config

import pymodel as pm
from pymodel import _core
from pymodel.models import AutoModelForMaskedLM, AutoModelForTokenClassification

STEPS = 3
HAS_EMULATOR = hasattr(_core, "simt_set_schedule")


def train(kind: Any, model_type: str, device: str) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of a few steps with dropout on packed batches, and the weights after them."""
    dropout: dict[str, Any] = dict.fromkeys(DROPOUTS[model_type], 0.1)
    config = small_config(model_type, num_labels=CLASSES, **dropout)
    pm.manual_seed(7)
    model = kind.from_config(config, device=device).train()
    optimizer = pm.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    losses = []
    for step in range(STEPS):
        inputs = random_inputs(config, type(model).__name__, step)
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {n: p.to("float32").numpy().copy() for n, p in model.state_dict().items()}


@pytest.mark.skipif(not HAS_EMULATOR, reason="built without the emulator (PYMODEL_SIMT=OFF)")
@pytest.mark.parametrize("model_type", HEADS)
@pytest.mark.parametrize("kind", [AutoModelForMaskedLM, AutoModelForTokenClassification])
def test_encoder_trains_on_the_emulator_as_on_the_cpu(kind: Any, model_type: str) -> None:
    cpu_losses, cpu_weights = train(kind, model_type, "cpu")
    simt_losses, simt_weights = train(kind, model_type, "simt")
    np.testing.assert_allclose(simt_losses, cpu_losses, rtol=2e-6)
    for name, expected in cpu_weights.items():
        if name.endswith(("key.bias", "k_lin.bias")):
            continue  # its gradient is pure rounding, which AdamW scales up to whole steps
        difference = np.linalg.norm(simt_weights[name] - expected) / np.linalg.norm(expected)
        assert difference < 1e-5, f"{name} differs by {difference:.1e}"
