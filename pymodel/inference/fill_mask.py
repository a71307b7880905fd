"""The words that a masked language model would put into the gaps of a text."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import numpy as np

from pymodel import ops
from pymodel.autograd import no_grad
from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.hub import resolve_folder
from pymodel.inference.texts import TextRunner
from pymodel.models import AutoModelForMaskedLM
from pymodel.models.heads import MaskedLanguageModel
from pymodel.models.loading import NewWeightsWarning
from pymodel.text import AutoTokenizer, Tokenizer


@dataclasses.dataclass(frozen=True)
class Filling:
    """One token for one gap.

    score: its probability.
    token: its id.
    token_str: how it reads.
    sequence: the whole text with it, other gaps left out.
    """

    score: float
    token: int
    token_str: str
    sequence: str


class FillMask(TextRunner):
    """Fills the gaps of texts.

    Args:
        model: an encoder with a head for masked tokens.
        tokenizer: the one that the model was trained with; it has a mask token.

    Raises: ConfigError for a model or tokenizer of another kind.
    """

    model: MaskedLanguageModel

    def __init__(self, model: MaskedLanguageModel, tokenizer: Tokenizer) -> None:
        if not isinstance(model, MaskedLanguageModel):
            raise ConfigError(f"model must predict masked tokens, got {type(model).__name__}")
        if tokenizer.mask_token_id is None:
            raise ConfigError(
                "tokenizer has no mask_token, which marks a gap; set it, or use the model's own"
            )
        super().__init__(model, tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        dtype: str | None = None,
        device: str | None = None,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> FillMask:
        """Reads a model and its tokenizer.

        Args and errors: as `PretrainedModel.from_pretrained`, but a checkpoint without the head that
        scores tokens is an error here, where nobody would train it.
        """
        folder = resolve_folder(name, revision=revision, local_files_only=local_files_only)
        with warnings.catch_warnings():
            warnings.simplefilter("error", NewWeightsWarning)
            try:
                model = AutoModelForMaskedLM.from_pretrained(folder, dtype, device)
            except NewWeightsWarning as problem:
                raise CheckpointError(str(problem)) from None
        return cls(model, AutoTokenizer.from_pretrained(folder))

    def __call__(self, text: str, top_k: int = 5) -> list[list[Filling]]:
        """The likeliest tokens for each gap, each as if the other gaps stayed open.

        Args:
            text: with the tokenizer's mask token, such as [MASK], once or several times.
            top_k: tokens for each gap.

        Returns: for every gap in order, `top_k` fillings, the likeliest first.

        Raises: DataError for a text without a gap, or whose gaps lie beyond the longest text that the
        model takes; ConfigError for top_k.
        """
        if not 1 <= top_k <= self.model.config.vocab_size:
            raise ConfigError(
                f"top_k must lie between 1 and {self.model.config.vocab_size}, the vocabulary, got {top_k}"
            )
        mask, mask_id = self.tokenizer.mask_token, self.tokenizer.mask_token_id
        (batch,) = self.batches([text], 1)
        ids = batch.inputs["input_ids"][0]
        gaps = np.flatnonzero(ids == mask_id)
        wanted = text.count(str(mask))
        if not gaps.size or gaps.size < wanted:
            reason = (
                f"got {wanted}, of which {gaps.size} within {self.max_length} tokens"
                if wanted
                else "got none"
            )
            raise DataError(f"text: expected {mask} at least once, {reason}")
        return [
            [self._filling(ids, int(place), token, score) for token, score in best]
            for place, best in zip(gaps, self._best(batch.inputs, gaps, top_k), strict=True)
        ]

    def _best(self, inputs: dict[str, Any], gaps: np.ndarray, top_k: int) -> list[list[tuple[int, float]]]:
        """The likeliest tokens of each gap, and their probabilities."""
        parts = self.model.prediction_parts
        with no_grad():
            tokens = self.model.encoder_model.token_states(**inputs)
            scores = parts.decoder(parts.transformed(tokens.states[0][gaps]))
            probabilities = ops.softmax(ops.cast(scores, "float32"), -1).numpy()
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [
            [(int(token), float(row[token])) for token in best]
            for row, best in zip(probabilities, order, strict=True)
        ]

    def _filling(self, ids: np.ndarray, place: int, token: int, score: float) -> Filling:
        filled = ids.copy()
        filled[place] = token
        sequence = self.tokenizer.decode(filled, skip_special_tokens=True)
        return Filling(score, token, self.tokenizer.decode([token]), sequence)
