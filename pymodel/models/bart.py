"""BART: an encoder-decoder with learned positions, trained to mend damaged text.

Source: Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation,
Translation, and Comprehension", arXiv:1910.13461.
"""

from __future__ import annotations

from typing import Any

from pymodel import nn
from pymodel.models.bart_config import BartConfig
from pymodel.models.seq2seq_families import BlocksLanguageModel, BlocksModel, BlocksPretrainedModel
from pymodel.tensor import Tensor

_OFFSET = 2  # rows of the position tables before position 0, a habit of fairseq


class LearnedPositions(nn.Embedding):
    """A trained vector for each of `count` positions."""

    def __init__(self, count: int, width: int, **where: Any) -> None:
        super().__init__(count + _OFFSET, width, **where)

    def forward(self, positions: Tensor) -> Tensor:
        """Takes positions (...), from 0; returns (..., width)."""
        return super().forward(positions + _OFFSET)


class BartPretrainedModel(BlocksPretrainedModel):
    """What all BART models share: the configuration, and what checkpoints may hold."""

    config_class = BartConfig
    ignored_on_load = (r"^(model\.)?(encoder|decoder)\.version$",)
    optional_weights = (r"^lm_head\.", r"^final_logits_bias$", r"^classification_head\.", r"^qa_outputs\.")
    # A target that nobody gave is the source: BART learned to write down what it reads.
    decodes_source = True


class BartModel(BartPretrainedModel, BlocksModel):
    """Encoder and decoder, without a head.

    Args: as `BlocksModel`.
    """

    def positions(self, **where: Any) -> nn.Module:
        """A trained table."""
        return LearnedPositions(self.config.max_position_embeddings, self.config.d_model, **where)


class BartForConditionalGeneration(BartPretrainedModel, BlocksLanguageModel):
    """BART with a head that writes text.

    Args: as `BlocksModel`.
    """

    body_class = BartModel
    has_logits_bias = True
