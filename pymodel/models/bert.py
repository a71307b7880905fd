"""BERT: the bare model, and its heads for pre-training and for the tasks that it is fine-tuned on.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", arXiv:1810.04805.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pymodel import nn, ops
from pymodel.models.bert_config import BertConfig
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.encoder import EncoderModel, EncoderPretrainedModel, TokenStates
from pymodel.models.encoder_blocks import BlockParts, EncoderBlock, EncoderEmbeddings, Named, Pooler
from pymodel.models.heads import (
    EncoderHead,
    MaskedLanguageModel,
    PredictionParts,
    QuestionAnswering,
    TextClassifier,
    TiedDecoder,
    TokenClassifier,
)
from pymodel.models.inputs import class_labels, padding_is_unlabelled, token_ids, token_labels
from pymodel.models.outputs import PreTrainingOutput
from pymodel.tensor import Tensor, tensor


class BertBlock(EncoderBlock):
    """A block under the names of BERT's checkpoints."""

    def __init__(self, config: BertConfig, **where: Any) -> None:
        super().__init__(
            config.num_attention_heads,
            ACTIVATIONS[config.hidden_act],
            config.attention_probs_dropout_prob,
            config.hidden_dropout_prob,
        )
        new = BlockParts.new(config.hidden_size, config.intermediate_size, config.layer_norm_eps, **where)
        self.attention = Named(
            self=Named(query=new.query, key=new.key, value=new.value),
            output=Named(dense=new.attention_output, LayerNorm=new.attention_norm),
        )
        self.intermediate = Named(dense=new.inner)
        self.output = Named(dense=new.output, LayerNorm=new.output_norm)

    @property
    def parts(self) -> BlockParts:
        projections, mixed = self.attention.self, self.attention.output
        return BlockParts(
            projections.query,
            projections.key,
            projections.value,
            mixed.dense,
            mixed.LayerNorm,
            self.intermediate.dense,
            self.output.dense,
            self.output.LayerNorm,
        )


class BertPretrainedModel(EncoderPretrainedModel):
    """What the bare model and those with heads share."""

    config_class = BertConfig
    base_model_prefix = "bert"
    optional_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)pooler\.",
        r"^cls\.predictions\.",
        r"^cls\.seq_relationship\.",
        r"^classifier\.",
        r"^qa_outputs\.",
    )

    config: BertConfig


class BertModel(BertPretrainedModel, EncoderModel):
    """The stack of blocks, without a head.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
        add_pooling_layer: whether `pooler_output` is made, from the first token.
    """

    def __init__(
        self,
        config: BertConfig,
        dtype: str = "float32",
        device: str | None = None,
        add_pooling_layer: bool = True,
    ) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            self.embeddings = EncoderEmbeddings(
                config.vocab_size,
                config.max_position_embeddings,
                config.type_vocab_size,
                config.hidden_size,
                config.layer_norm_eps,
                config.hidden_dropout_prob,
                config.pad_token_id,
                self.padding_position,
                **where,
            )
            self.encoder = Named(
                layer=nn.ModuleList([BertBlock(config, **where) for _ in range(config.num_hidden_layers)])
            )
            self.pooler = Pooler(config.hidden_size, **where) if add_pooling_layer else None
        self.init_weights()

    @property
    def padding_position(self) -> int | None:
        """The row of the table of positions that stands for padding, where there is one."""
        return None

    @property
    def blocks(self) -> Iterable[EncoderBlock]:
        blocks: Iterable[EncoderBlock] = self.encoder.layer
        return blocks


class BertPredictions(TiedDecoder):
    """The layers that score every token of the vocabulary, under BERT's names."""

    def __init__(self, config: BertConfig, embedding: nn.Parameter) -> None:
        super().__init__()
        where: dict[str, Any] = {"dtype": embedding.dtype, "device": embedding.device}
        width, activation = config.hidden_size, ACTIVATIONS[config.hidden_act]
        self.transform = Named(
            dense=nn.Linear(width, width, activation=activation, **where),
            LayerNorm=nn.LayerNorm(width, eps=config.layer_norm_eps, **where),
        )
        self.add_decoder(embedding, config.tie_word_embeddings)

    @property
    def parts(self) -> PredictionParts:
        return PredictionParts(self.transform.dense, self.transform.LayerNorm, self.decoder)


def tied_predictions(config: BertConfig) -> dict[str, str]:
    """The tied weights of models with `BertPredictions`."""
    if not config.tie_word_embeddings:
        return {}
    return {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }


class BertForMaskedLM(BertPretrainedModel, MaskedLanguageModel):
    """BERT that predicts hidden tokens; the scores are products with the token embedding when tied.

    Args: as `BertModel`.
    """

    def __init__(self, config: BertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.bert = BertModel(config, dtype, device, add_pooling_layer=False)
        with nn.init.no_init():
            embedding = self.bert.embeddings.word_embeddings.weight
            self.cls = Named(predictions=BertPredictions(config, embedding))
        self.init_head()

    @property
    def tied_weights(self) -> dict[str, str]:
        return tied_predictions(self.config)

    @property
    def prediction_parts(self) -> PredictionParts:
        parts: PredictionParts = self.cls.predictions.parts
        return parts


class BertForPreTraining(BertPretrainedModel, EncoderHead):
    """BERT with the heads of its pre-training: hidden tokens, and whether the second text of a pair
    follows the first.

    Args: as `BertModel`.
    """

    def __init__(self, config: BertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.bert = BertModel(config, dtype, device)
        with nn.init.no_init():
            embedding = self.bert.embeddings.word_embeddings.weight
            self.cls = Named(
                predictions=BertPredictions(config, embedding),
                seq_relationship=nn.Linear(config.hidden_size, 2, dtype=dtype, device=device),
            )
        self.init_head()

    @property
    def tied_weights(self) -> dict[str, str]:
        return tied_predictions(self.config)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        next_sentence_label: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> PreTrainingOutput:
        """The scores of both heads, and with both kinds of labels the sum of their losses.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states,
                output_attentions, padding_is_read: as in the bare model.
            labels: as in `BertForMaskedLM`.
            next_sentence_label: (batch,), 0 where the second text follows the first, 1 where it does not.

        Returns: loss, prediction_logits (batch, sequence, vocab_size), seq_relationship_logits (batch,
        2), hidden_states and attentions.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        targets = None
        if labels is not None and next_sentence_label is not None:
            input_ids = token_ids(input_ids, self.config.vocab_size)
            targets = token_labels(labels, input_ids.shape, self.config.vocab_size)
            padding_is_read = padding_is_read and not padding_is_unlabelled(targets, attention_mask)
        tokens = self.bert.token_states(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            padding_is_read,
        )
        follows = next_sentence_logits(self.bert, self.cls.seq_relationship, tokens)
        parts, rest = self.cls.predictions.parts, (tokens.hidden_states, tokens.attentions)
        if targets is None:
            return PreTrainingOutput(None, parts.logits(tokens), follows, *rest)
        loss = parts.loss(tokens, targets) + next_sentence_loss(follows, next_sentence_label)
        return PreTrainingOutput(loss, parts.deferred_logits(tokens), follows, *rest)


class BertForNextSentencePrediction(BertPretrainedModel, TextClassifier):
    """BERT that says whether the second text of a pair follows the first: 0 if it does, 1 if not.

    Args: as `BertModel`.
    """

    def __init__(self, config: BertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.bert = BertModel(config, dtype, device)
        with nn.init.no_init():
            head = nn.Linear(config.hidden_size, 2, dtype=dtype, device=device)
            self.cls = Named(seq_relationship=head)
        self.init_head()

    def text_logits(self, tokens: TokenStates) -> Tensor:
        return next_sentence_logits(self.bert, self.cls.seq_relationship, tokens)

    def text_loss(self, logits: Tensor, labels: Any) -> Tensor:
        return next_sentence_loss(logits, labels)


class BertForSequenceClassification(BertPretrainedModel, TextClassifier):
    """BERT that classifies texts, or with one label predicts a number.

    Args: as `BertModel`.
    """

    def __init__(self, config: BertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.bert = BertModel(config, dtype, device)
        self.dropout = nn.Dropout(config.head_dropout)
        with nn.init.no_init():
            self.classifier = nn.Linear(config.hidden_size, config.num_labels, dtype=dtype, device=device)
        self.init_head()

    def text_logits(self, tokens: TokenStates) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.bert.pooled(tokens)))
        return logits


class BertForTokenClassification(BertPretrainedModel, TokenClassifier):
    """BERT that classifies tokens, as entity recognition does.

    Args: as `BertModel`.
    """

    def __init__(self, config: BertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.bert = BertModel(config, dtype, device, add_pooling_layer=False)
        self.add_classifier(config.head_dropout, dtype=dtype, device=device)


class BertForQuestionAnswering(BertPretrainedModel, QuestionAnswering):
    """BERT that marks the answer to a question in a text.

    Args: as `BertModel`.

    Raises: ConfigError unless the configuration's num_labels is 2.
    """

    def __init__(self, config: BertConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.bert = BertModel(config, dtype, device, add_pooling_layer=False)
        self.add_span_head(0.0, dtype=dtype, device=device)


def next_sentence_logits(model: BertModel, head: nn.Linear, tokens: TokenStates) -> Tensor:
    """(batch, 2)"""
    logits: Tensor = head(model.pooled(tokens))
    return logits


def next_sentence_loss(logits: Tensor, labels: Any) -> Tensor:
    """The mean cross entropy of (batch,) labels 0 and 1."""
    targets = class_labels(labels, logits.shape[:1], 2, "next_sentence_label")
    return ops.cross_entropy(logits, tensor(targets, device=logits.device))
