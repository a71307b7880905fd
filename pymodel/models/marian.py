"""Marian: the original Transformer as the translators of the OPUS-MT project have it.

Source: Junczys-Dowmunt et al., "Marian: Fast Neural Machine Translation in C++", arXiv:1804.00344.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pymodel import nn
from pymodel.models.marian_config import MarianConfig
from pymodel.models.seq2seq_families import BlocksLanguageModel, BlocksModel, BlocksPretrainedModel
from pymodel.models.sinusoids import SinusoidalPositions, sinusoids
from pymodel.tensor import Tensor


class MarianPretrainedModel(BlocksPretrainedModel):
    """What both Marian models share: the configuration, and what checkpoints may hold."""

    config_class = MarianConfig
    # Positions are computed; old checkpoints and those of the bare model store them all the same.
    ignored_on_load = (r"embed_positions\.weight$",)
    optional_weights = (r"^lm_head\.", r"^final_logits_bias$")


class MarianModel(MarianPretrainedModel, BlocksModel):
    """Encoder and decoder, without a head.

    Args: as `BlocksModel`.
    """

    def positions(self, **where: Any) -> nn.Module:
        """Sinusoids, all sines before all cosines."""
        table = sinusoids(self.config.max_position_embeddings, self.config.d_model)
        return SinusoidalPositions(np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1), **where)

    def stored_weights(self) -> dict[str, Tensor]:
        """Positions too: transformers leaves them out with a head, but asks the bare model for them."""
        return {**super().stored_weights(), **dict(self.named_buffers())}


class MarianMTModel(MarianPretrainedModel, BlocksLanguageModel):
    """Marian with a head that writes the translation.

    Args: as `BlocksModel`.
    """

    body_class = MarianModel
    has_logits_bias = True
