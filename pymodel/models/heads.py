"""Heads of encoders: what they are given, which tokens they look at, and their losses.

A family's class makes the layers under its own names; the calls and the losses are here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pymodel import nn, ops
from pymodel.autograd import is_grad_enabled, set_grad_enabled
from pymodel.errors import ConfigError
from pymodel.models.encoder import EncoderModel, EncoderPretrainedModel, TokenStates
from pymodel.models.inputs import IGNORED, class_labels, padding_is_unlabelled, token_ids, token_labels
from pymodel.models.losses import span_loss, text_loss
from pymodel.models.outputs import (
    Deferred,
    MaskedLMOutput,
    QuestionAnsweringOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from pymodel.tensor import Tensor, empty, tensor


class EncoderHead(EncoderPretrainedModel):
    """Base of encoders with a head; they hold the bare model under `base_model_prefix`."""

    @property
    def encoder_model(self) -> EncoderModel:
        """The bare model."""
        model: EncoderModel = getattr(self, self.base_model_prefix)
        return model

    def init_head(self) -> None:
        """Draws the initial values of everything outside the bare model, which has drawn its own."""
        prefix = self.base_model_prefix + "."
        self.init_weights({name for name, _ in self.named_parameters() if not name.startswith(prefix)})


class ClassificationHead(nn.Module):
    """linear(dropout(tanh(linear(dropout(x))))), as RoBERTa and BART classify texts.

    Args:
        width: of x.
        labels: numbers that come out.
        dropout_p: probability of dropping.
        where: dtype and device of the parameters.
    """

    def __init__(self, width: int, labels: int, dropout_p: float, **where: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width, activation="tanh", **where)
        self.dropout = nn.Dropout(dropout_p)
        self.out_proj = nn.Linear(width, labels, **where)

    def forward(self, x: Tensor) -> Tensor:
        """Takes (batch, width); returns (batch, labels)."""
        logits: Tensor = self.out_proj(self.dropout(self.dense(self.dropout(x))))
        return logits


class PredictionParts(NamedTuple):
    """The layers that score every token of the vocabulary: decoder(norm(dense(x))), where the
    activation is dense's own."""

    dense: nn.Linear
    norm: nn.LayerNorm
    decoder: nn.Linear

    def transformed(self, states: Tensor) -> Tensor:
        """What the decoder is given, of the shape of states."""
        result: Tensor = self.norm(self.dense(states))
        return result

    def loss(self, tokens: TokenStates, labels: np.ndarray) -> Tensor:
        """The mean cross entropy of the labelled tokens. The others, six of seven in pre-training, are
        not looked at.

        Args:
            tokens: of the bare model.
            labels: (batch, sequence) int64, token ids or -100.
        """
        targets = tokens.layout.arranged(labels).reshape(-1)
        states = tokens.states.view(-1, tokens.states.shape[-1])
        rows = np.flatnonzero(targets != IGNORED)
        if rows.size < targets.size:
            states = ops.embedding(tensor(rows, device=states.device), states)
        return ops.linear_cross_entropy(
            self.transformed(states),
            self.decoder.weight,
            tensor(targets[rows], device=states.device),
            bias=self.decoder.bias,
        )

    def logits(self, tokens: TokenStates) -> Tensor:
        """(batch, sequence, vocab_size)"""
        return tokens.padded(self.decoder(self.transformed(tokens.states)))

    def deferred_logits(self, tokens: TokenStates) -> Deferred:
        """`logits`, computed when they are read, and recorded for backward if this is."""
        recorded = is_grad_enabled()

        def compute() -> Tensor:
            with set_grad_enabled(recorded):
                return self.logits(tokens)

        return Deferred(compute)


class TiedDecoder(nn.Module):
    """Base of a head whose `decoder` shares the token embedding, and whose bias has two names."""

    decoder: nn.Linear

    def add_decoder(self, embedding: nn.Parameter, tied: bool) -> None:
        """Makes the decoder to the rows of the embedding, (vocab_size, width)."""
        where: dict[str, Any] = {"dtype": embedding.dtype, "device": embedding.device}
        classes, width = embedding.shape
        self.decoder = nn.Linear(width, classes, **where)
        if tied:
            self.decoder.weight = embedding
            self.bias = self.decoder.bias
        else:
            # transformers keeps both in its files, and computes with the decoder's.
            self.bias = nn.Parameter(empty((classes,), **where))


class MaskedLanguageModel(EncoderHead):
    """Base of encoders that predict hidden tokens."""

    @property
    def prediction_parts(self) -> PredictionParts:
        """The layers of the head; each family holds them under names of its own."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> MaskedLMOutput:
        """The scores of every token of the vocabulary at every position, and with labels the loss.

        loss = -mean over the labels of log softmax(logits[t])[labels[t]]

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states,
                output_attentions, padding_is_read: as in the bare model.
            labels: (batch, sequence), the token that stood there where one is to be predicted, else -100.
                Where all labels of padding are -100, it is skipped.

        Returns: loss (with labels), logits (batch, sequence, vocab_size), hidden_states and attentions.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        targets = None
        if labels is not None:
            input_ids = token_ids(input_ids, self.config.vocab_size)
            targets = token_labels(labels, input_ids.shape, self.config.vocab_size)
            padding_is_read = padding_is_read and not padding_is_unlabelled(targets, attention_mask)
        tokens = self.encoder_model.token_states(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            padding_is_read,
        )
        parts, rest = self.prediction_parts, (tokens.hidden_states, tokens.attentions)
        if targets is None:
            return MaskedLMOutput(None, parts.logits(tokens), *rest)
        return MaskedLMOutput(parts.loss(tokens, targets), parts.deferred_logits(tokens), *rest)


class TextClassifier(EncoderHead):
    """Base of classifiers of texts, and of regressions, that look at each text's first token."""

    def text_logits(self, tokens: TokenStates) -> Tensor:
        """(batch, num_labels), by each family's own layers."""
        raise NotImplementedError

    def text_loss(self, logits: Tensor, labels: Any) -> Tensor:
        """The loss of those logits."""
        return text_loss(logits, labels, self.config)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> SequenceClassifierOutput:
        """The scores of every text's classes, and with labels the loss. Padding costs nothing, and in the
        last block neither do the tokens after the first, which the heads do not look at.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states,
                output_attentions: as in the bare model.
            labels: (batch,) classes, or numbers of (batch, num_labels) for a regression or when a text
                may have several labels; see `losses.text_loss`.

        Returns: loss (with labels), logits (batch, num_labels), hidden_states and attentions.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        tokens = self.encoder_model.token_states(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            padding_is_read=False,
            only_first_is_read=True,
        )
        logits = self.text_logits(tokens)
        loss = None if labels is None else self.text_loss(logits, labels)
        return SequenceClassifierOutput(loss, logits, tokens.hidden_states, tokens.attentions)


class TokenClassifier(EncoderHead):
    """Base of classifiers of tokens; `classifier` makes the logits, after `dropout`."""

    classifier: nn.Linear
    dropout: nn.Dropout

    def add_classifier(self, dropout: float, **where: Any) -> None:
        """Makes the head."""
        self.dropout = nn.Dropout(dropout)
        with nn.init.no_init():
            self.classifier = nn.Linear(self.config.hidden_size, self.config.num_labels, **where)
        self.init_head()

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> TokenClassifierOutput:
        """The scores of every token's classes, and with labels the loss.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states,
                output_attentions, padding_is_read: as in the bare model.
            labels: (batch, sequence) classes, or -100 where none counts. Where all labels of padding are
                -100, it is skipped.

        Returns: loss (with labels), logits (batch, sequence, num_labels), hidden_states and attentions.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        targets = None
        if labels is not None:
            input_ids = token_ids(input_ids, self.config.vocab_size)
            targets = class_labels(labels, input_ids.shape, self.config.num_labels)
            padding_is_read = padding_is_read and not padding_is_unlabelled(targets, attention_mask)
        tokens = self.encoder_model.token_states(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            padding_is_read,
        )
        logits = self.classifier(self.dropout(tokens.states))
        loss = None if targets is None else ops.cross_entropy(logits, tokens.layout.place(targets))
        return TokenClassifierOutput(loss, tokens.padded(logits), tokens.hidden_states, tokens.attentions)


class QuestionAnswering(EncoderHead):
    """Base of models that mark an answer in a text; `qa_outputs` scores its ends, after `dropout`."""

    qa_outputs: nn.Linear
    dropout: nn.Dropout

    def add_span_head(self, dropout: float, **where: Any) -> None:
        """Makes the head.

        Raises: ConfigError unless num_labels is 2, an answer's beginning and its end.
        """
        if self.config.num_labels != 2:
            raise ConfigError(
                f"num_labels must be 2 to mark an answer, got {self.config.num_labels}; pass num_labels=2"
            )
        self.dropout = nn.Dropout(dropout)
        with nn.init.no_init():
            self.qa_outputs = nn.Linear(self.config.hidden_size, 2, **where)
        self.init_head()

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> QuestionAnsweringOutput:
        """The scores of every token as the answer's first and last one; with both positions the loss.

        Padding is computed here: the loss takes a softmax over all positions, as transformers' does.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states,
                output_attentions: as in the bare model.
            start_positions, end_positions: (batch,) positions of the answer's first and last token; those
                beyond the sequence do not count.

        Returns: loss, start_logits and end_logits (batch, sequence), hidden_states and attentions.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        tokens = self.encoder_model.token_states(
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states, output_attentions
        )
        logits = self.qa_outputs(self.dropout(tokens.states))
        start_logits, end_logits = (ops.contiguous(ends) for ends in ops.unbind(logits, -1))
        loss = span_loss(start_logits, end_logits, start_positions, end_positions)
        return QuestionAnsweringOutput(
            loss, start_logits, end_logits, tokens.hidden_states, tokens.attentions
        )
