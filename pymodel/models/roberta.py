"""RoBERTa: BERT's blocks with positions counted around padding, and heads of its own.

Source: Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", arXiv:1907.11692.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pymodel import nn
from pymodel.models.bert import BertModel, BertPretrainedModel
from pymodel.models.encoder import TokenStates
from pymodel.models.heads import (
    ClassificationHead,
    MaskedLanguageModel,
    PredictionParts,
    QuestionAnswering,
    TextClassifier,
    TiedDecoder,
    TokenClassifier,
)
from pymodel.models.roberta_config import RobertaConfig
from pymodel.tensor import Tensor


class RobertaPretrainedModel(BertPretrainedModel):
    """What the bare model and those with heads share."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    optional_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)pooler\.",
        r"^lm_head\.",
        r"^classifier\.",
        r"^qa_outputs\.",
    )

    config: RobertaConfig

    @property
    def longest_text(self) -> int:
        return super().longest_text - self.config.pad_token_id - 1

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """As for all encoders, with zeros for the position of padding."""
        super().init_parameter(name, parameter)
        if name.endswith("position_embeddings.weight"):
            nn.init.zeros_(parameter.detach()[self.config.pad_token_id])


class RobertaModel(RobertaPretrainedModel, BertModel):
    """The stack of blocks, without a head.

    Args: as `BertModel`.
    """

    @property
    def padding_position(self) -> int:
        return self.config.pad_token_id

    def default_positions(self, ids: np.ndarray) -> np.ndarray:
        """Padding has the position pad_token_id; the others count on from there, as in fairseq."""
        padding = self.config.pad_token_id
        is_token = (ids != padding).astype(np.int64)
        positions: np.ndarray = is_token.cumsum(axis=1) * is_token + padding
        return positions


class RobertaLMHead(TiedDecoder):
    """The layers that score every token of the vocabulary, under RoBERTa's names."""

    def __init__(self, config: RobertaConfig, embedding: nn.Parameter) -> None:
        super().__init__()
        where: dict[str, Any] = {"dtype": embedding.dtype, "device": embedding.device}
        width = config.hidden_size
        self.dense = nn.Linear(width, width, activation="gelu", **where)
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps, **where)
        self.add_decoder(embedding, config.tie_word_embeddings)


class RobertaForMaskedLM(RobertaPretrainedModel, MaskedLanguageModel):
    """RoBERTa that predicts hidden tokens; the scores are products with the token embedding when tied.

    Args: as `BertModel`.
    """

    def __init__(self, config: RobertaConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, dtype, device, add_pooling_layer=False)
        with nn.init.no_init():
            self.lm_head = RobertaLMHead(config, self.roberta.embeddings.word_embeddings.weight)
        self.init_head()

    @property
    def tied_weights(self) -> dict[str, str]:
        if not self.config.tie_word_embeddings:
            return {}
        return {
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        }

    @property
    def prediction_parts(self) -> PredictionParts:
        return PredictionParts(self.lm_head.dense, self.lm_head.layer_norm, self.lm_head.decoder)


class RobertaForSequenceClassification(RobertaPretrainedModel, TextClassifier):
    """RoBERTa that classifies texts, or with one label predicts a number.

    Args: as `BertModel`.
    """

    def __init__(self, config: RobertaConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, dtype, device, add_pooling_layer=False)
        with nn.init.no_init():
            self.classifier = ClassificationHead(
                config.hidden_size, config.num_labels, config.head_dropout, dtype=dtype, device=device
            )
        self.init_head()

    def text_logits(self, tokens: TokenStates) -> Tensor:
        logits: Tensor = self.classifier(tokens.first_tokens())
        return logits


class RobertaForTokenClassification(RobertaPretrainedModel, TokenClassifier):
    """RoBERTa that classifies tokens, as entity recognition does.

    Args: as `BertModel`.
    """

    def __init__(self, config: RobertaConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, dtype, device, add_pooling_layer=False)
        self.add_classifier(config.head_dropout, dtype=dtype, device=device)


class RobertaForQuestionAnswering(RobertaPretrainedModel, QuestionAnswering):
    """RoBERTa that marks the answer to a question in a text.

    Args: as `BertModel`.

    Raises: ConfigError unless the configuration's num_labels is 2.
    """

    def __init__(self, config: RobertaConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, dtype, device, add_pooling_layer=False)
        self.add_span_head(0.0, dtype=dtype, device=device)
