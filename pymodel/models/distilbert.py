"""DistilBERT: half of BERT's blocks, without token types and pooler.

Source: Sanh et al., "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
arXiv:1910.01108.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pymodel import nn
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.distilbert_config import DistilBertConfig
from pymodel.models.encoder import EncoderModel, EncoderPretrainedModel, TokenStates
from pymodel.models.encoder_blocks import BlockParts, EncoderBlock, EncoderEmbeddings, Named
from pymodel.models.heads import (
    MaskedLanguageModel,
    PredictionParts,
    QuestionAnswering,
    TextClassifier,
    TokenClassifier,
)
from pymodel.models.sinusoids import sinusoids
from pymodel.tensor import Tensor, tensor


class DistilBertBlock(EncoderBlock):
    """A block under the names of DistilBERT's checkpoints."""

    def __init__(self, config: DistilBertConfig, **where: Any) -> None:
        super().__init__(
            config.n_heads, ACTIVATIONS[config.activation], config.attention_dropout, config.dropout
        )
        new = BlockParts.new(config.dim, config.hidden_dim, config.layer_norm_eps, **where)
        self.attention = Named(q_lin=new.query, k_lin=new.key, v_lin=new.value, out_lin=new.attention_output)
        self.sa_layer_norm = new.attention_norm
        self.ffn = Named(lin1=new.inner, lin2=new.output)
        self.output_layer_norm = new.output_norm

    @property
    def parts(self) -> BlockParts:
        attention, feed_forward = self.attention, self.ffn
        return BlockParts(
            attention.q_lin,
            attention.k_lin,
            attention.v_lin,
            attention.out_lin,
            self.sa_layer_norm,
            feed_forward.lin1,
            feed_forward.lin2,
            self.output_layer_norm,
        )


class DistilBertPretrainedModel(EncoderPretrainedModel):
    """What the bare model and those with heads share."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    optional_weights = (
        r"^vocab_(transform|layer_norm|projector)\.",
        r"^pre_classifier\.",
        r"^classifier\.",
        r"^qa_outputs\.",
    )

    config: DistilBertConfig

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """As for all encoders, with sines and cosines for positions if the configuration says so."""
        super().init_parameter(name, parameter)
        if name.endswith("position_embeddings.weight") and self.config.sinusoidal_pos_embds:
            table = sinusoids(*parameter.shape).astype(np.float32)
            parameter.detach().copy_(tensor(table, device=parameter.device))


class DistilBertModel(DistilBertPretrainedModel, EncoderModel):
    """The stack of blocks, without a head.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
    """

    def __init__(self, config: DistilBertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            self.embeddings = EncoderEmbeddings(
                config.vocab_size,
                config.max_position_embeddings,
                config.type_vocab_size,
                config.dim,
                config.layer_norm_eps,
                config.dropout,
                config.pad_token_id,
                **where,
            )
            self.transformer = Named(
                layer=nn.ModuleList([DistilBertBlock(config, **where) for _ in range(config.n_layers)])
            )
        self.init_weights()

    @property
    def blocks(self) -> Iterable[EncoderBlock]:
        blocks: Iterable[EncoderBlock] = self.transformer.layer
        return blocks


class DistilBertForMaskedLM(DistilBertPretrainedModel, MaskedLanguageModel):
    """DistilBERT that predicts hidden tokens; the scores are products with the token embedding when tied.

    Args: as `DistilBertModel`.
    """

    def __init__(self, config: DistilBertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.distilbert = DistilBertModel(config, **where)
        with nn.init.no_init():
            activation = ACTIVATIONS[config.activation]
            self.vocab_transform = nn.Linear(config.dim, config.dim, activation=activation, **where)
            self.vocab_layer_norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps, **where)
            self.vocab_projector = nn.Linear(config.dim, config.vocab_size, **where)
        if config.tie_word_embeddings:
            self.vocab_projector.weight = self.distilbert.embeddings.word_embeddings.weight
        self.init_head()

    @property
    def tied_weights(self) -> dict[str, str]:
        if not self.config.tie_word_embeddings:
            return {}
        return {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}

    @property
    def prediction_parts(self) -> PredictionParts:
        return PredictionParts(self.vocab_transform, self.vocab_layer_norm, self.vocab_projector)


class DistilBertForSequenceClassification(DistilBertPretrainedModel, TextClassifier):
    """DistilBERT that classifies texts, or with one label predicts a number.

    Args: as `DistilBertModel`.
    """

    def __init__(self, config: DistilBertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.distilbert = DistilBertModel(config, **where)
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        with nn.init.no_init():
            self.pre_classifier = nn.Linear(config.dim, config.dim, activation="relu", **where)
            self.classifier = nn.Linear(config.dim, config.num_labels, **where)
        self.init_head()

    def text_logits(self, tokens: TokenStates) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.pre_classifier(tokens.first_tokens())))
        return logits


class DistilBertForTokenClassification(DistilBertPretrainedModel, TokenClassifier):
    """DistilBERT that classifies tokens, as entity recognition does.

    Args: as `DistilBertModel`.
    """

    def __init__(self, config: DistilBertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config, dtype, device)
        self.add_classifier(config.dropout, dtype=dtype, device=device)


class DistilBertForQuestionAnswering(DistilBertPretrainedModel, QuestionAnswering):
    """DistilBERT that marks the answer to a question in a text.

    Args: as `DistilBertModel`.

    Raises: ConfigError unless the configuration's num_labels is 2.
    """

    def __init__(self, config: DistilBertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config, dtype, device)
        self.add_span_head(config.qa_dropout, dtype=dtype, device=device)
