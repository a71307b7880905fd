"""The loss on text that the model does not learn from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymodel.autograd import no_grad
from pymodel.errors import DataError
from pymodel.metrics import bits_per_byte, perplexity
from pymodel.nn import Module, packed_weights
from pymodel.tensor import Tensor
from pymodel.train.examples import IGNORED_LABEL

LossOfBatch = Callable[[Module, Mapping[str, Any]], Tensor]


def count_targets(batch: Mapping[str, Any]) -> int:
    """Tokens of a batch that a causal model is to predict: labels from the second on that are not -100."""
    labels = np.asarray(batch["labels"])
    return int(np.count_nonzero(labels[..., 1:] != IGNORED_LABEL))


@dataclass
class Evaluation:
    """Sums of an evaluation.

    Attributes:
        nats: cross-entropy of all the target tokens together.
        tokens: how many they are.
        seconds: time it took.
    """

    nats: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def metrics(self, prefix: str, text_bytes: int | None) -> dict[str, float]:
        """Loss in nats a token, perplexity, speed, and bits per byte when the bytes are known."""
        loss = self.nats / self.tokens
        result = {
            f"{prefix}_loss": loss,
            f"{prefix}_perplexity": perplexity(loss),
            f"{prefix}_tokens": self.tokens,
            f"{prefix}_runtime": round(self.seconds, 3),
            f"{prefix}_tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
        }
        if text_bytes is not None:
            result[f"{prefix}_bits_per_byte"] = bits_per_byte(loss, self.tokens, text_bytes)
        return result


def evaluate_batches(
    model: Module,
    batches: Iterable[Mapping[str, Any]],
    loss_of: LossOfBatch,
    after_batch: Callable[[], bool],
    keep_packed_weights: bool = True,
) -> Evaluation | None:
    """Runs the model over the batches in evaluation mode, recording nothing.

    Args:
        model: left in the mode it was in.
        batches: each with `labels`.
        loss_of: mean loss of a batch over its target tokens.
        after_batch: called after each batch; True gives the evaluation up.
        keep_packed_weights: whether weights are prepared once for all batches (`nn.packed_weights`).

    Returns:
        The sums, None when it was given up.

    Raises:
        DataError: there is no target token in any batch.
    """
    started = time.perf_counter()
    result = Evaluation()
    losses = []  # read at the end, so that a device is not waited for after each batch
    was_training = model.training
    model.eval()
    try:
        with no_grad(), packed_weights(model) if keep_packed_weights else nullcontext():
            for batch in batches:
                if count := count_targets(batch):
                    losses.append((count, loss_of(model, batch)))
                if after_batch():
                    return None
    finally:
        model.train(was_training)
    for count, loss in losses:
        result.nats += count * float(loss.item())
        result.tokens += count
    if result.tokens == 0:
        raise DataError("eval_dataset: expected target tokens, got none; give it more text")
    result.seconds = time.perf_counter() - started
    return result
