"""The Transformer, as its paper describes it: encoder and decoder of attention and feed-forward networks.

Where the sections of the paper are:

    3.1   stacks of blocks                       `seq2seq_blocks.EncoderBlock`, `DecoderBlock`
    3.2.1 softmax(Q K^T / sqrt(d_k)) V           `ops.attention`
    3.2.2 several heads                          `seq2seq_blocks.Attention`
    3.2.3 to the source, and within each text    `CrossAttention`, `EncoderAttention`, `DecoderAttention`
    3.3   max(0, x W_1 + b_1) W_2 + b_2          `seq2seq_blocks.Block.feed_forward`
    3.4   embeddings and softmax are one matrix  `BlocksPretrainedModel.tied_weights`, here
    3.5   sines and cosines for positions        `sinusoids.sinusoids`
    5.3   the learning rate                      `optim.get_scheduler("inverse_sqrt", ...)`
    5.4   dropout and label smoothing            `dropout`, `label_smoothing` of the configuration
    6.1   beam search                            `generate(..., num_beams=4, length_penalty=0.6)`

A target is read behind a start token, so that its first token can be predicted too; labels do that by
themselves.

Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.
"""

from __future__ import annotations

from typing import Any

from pymodel import nn
from pymodel.models.seq2seq_families import BlocksLanguageModel, BlocksModel, BlocksPretrainedModel
from pymodel.models.sinusoids import SinusoidalPositions, sinusoids
from pymodel.models.transformer_config import TransformerConfig
from pymodel.tensor import Tensor


class TransformerPretrainedModel(BlocksPretrainedModel):
    """What both Transformer models share: the configuration and initial weights."""

    config_class = TransformerConfig
    optional_weights = (r"^lm_head\.",)

    config: TransformerConfig

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Draws the initial values of one parameter. The paper does not say how; this follows its code,
        Tensor2Tensor: matrices as Glorot and Bengio, embeddings with deviation 1 / sqrt(d_model), which
        section 3.4 scales back to 1, biases 0 and the weights of layer norms 1."""
        if name.endswith(("shared.weight", "embed_tokens.weight", "lm_head.weight")):
            nn.init.normal_(parameter, std=self.config.d_model**-0.5)
            self.clear_padding(name, parameter)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            super().init_parameter(name, parameter)


class TransformerModel(TransformerPretrainedModel, BlocksModel):
    """Encoder and decoder, without a head.

    Args: as `BlocksModel`.
    """

    def positions(self, **where: Any) -> nn.Module:
        """Sinusoids, sines and cosines in turn."""
        table = sinusoids(self.config.max_position_embeddings, self.config.d_model)
        return SinusoidalPositions(table, **where)


class TransformerForConditionalGeneration(TransformerPretrainedModel, BlocksLanguageModel):
    """The Transformer with its softmax over the vocabulary, for translation and anything that turns one
    sequence into another.

    Args: as `BlocksModel`.
    """

    body_class = TransformerModel

    @property
    def default_smoothing(self) -> float:
        """That of the configuration while training, none in evaluation: a likelihood has no smoothing."""
        return self.config.label_smoothing if self.training else 0.0
