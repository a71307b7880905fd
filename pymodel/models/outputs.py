"""What models return: attributes that can also be read like a dictionary or a tuple."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from pymodel.models.cache import KeyValueCache
from pymodel.tensor import Tensor


class Deferred:
    """A value that is computed when it is first read: what a `DeferredField` may be set to."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute


class DeferredField:
    """A field of a dataclass, None by default, that may hold a `Deferred` until it is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return None  # the default
        value = vars(instance)[self._name]
        if isinstance(value, Deferred):
            value = vars(instance)[self._name] = value.compute()
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value


class ModelOutput:
    """Base of the outputs, which are dataclasses.

    Fields that are None are absent from the dictionary and from the tuple: `output["logits"]`,
    `output[0]`, `output[:2]`, `output.to_tuple()`, `dict(output.items())`.
    """

    def keys(self) -> list[str]:
        """Names of the fields that are set, in order."""
        names = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return [name for name in names if vars(self)[name] is not None]

    def values(self) -> list[Any]:
        """The fields that are set, in order."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Pairs of name and value of the fields that are set."""
        return [(name, getattr(self, name)) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        """The field of that name, or `default` where it is not set."""
        return getattr(self, name) if name in self.keys() else default

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are set, in order."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"{key!r} is not set; this output holds {', '.join(self.keys())}")
            return getattr(self, key)
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __len__(self) -> int:
        return len(self.keys())


# Fields that several outputs have, in transformers' order:
#
# loss: scalar, when labels were given.
# past_key_values: the cache that the next call continues from, when one is in use.
# hidden_states: the embeddings and the output of every block, (batch, sequence, width) each, when
#     asked for by output_hidden_states; the last of them is `last_hidden_state`.
# attentions: the attention weights of every block, (batch, heads, sequence, keys) each, when asked for
#     by output_attentions.
States = tuple[Tensor, ...] | None


@dataclasses.dataclass
class BaseModelOutput(ModelOutput):
    """Output of a model without a head: last_hidden_state, (batch, sequence, width)."""

    last_hidden_state: Tensor
    past_key_values: KeyValueCache | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class BaseModelOutputWithPooling(ModelOutput):
    """Output of an encoder.

    last_hidden_state: (batch, sequence, width).
    pooler_output: (batch, width), made from the first token, of models that have a pooler.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class CausalLMOutput(ModelOutput):
    """Output of a language model.

    loss: the mean cross entropy of the labels in nats.
    logits: (batch, sequence, vocab_size). Beside a loss, which needs no memory for them, they are computed
        when they are first read, from the weights as they are then.
    """

    loss: Tensor | None = None
    logits: Any = DeferredField()  # Tensor | None
    past_key_values: KeyValueCache | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class MaskedLMOutput(ModelOutput):
    """Output of an encoder that predicts hidden tokens; loss and logits as in `CausalLMOutput`."""

    loss: Tensor | None = None
    logits: Any = DeferredField()  # Tensor | None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class PreTrainingOutput(ModelOutput):
    """Output of BERT's pre-training: masked tokens and next sentence.

    loss: the sum of both, when both kinds of labels were given.
    prediction_logits: (batch, sequence, vocab_size), as in `CausalLMOutput`.
    seq_relationship_logits: (batch, 2): the second text follows the first one, or not.
    """

    loss: Tensor | None = None
    prediction_logits: Any = DeferredField()  # Tensor | None
    seq_relationship_logits: Tensor | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class SequenceClassifierOutput(ModelOutput):
    """Output of a classifier of texts: logits, (batch, num_labels)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class TokenClassifierOutput(ModelOutput):
    """Output of a classifier of tokens: logits, (batch, sequence, num_labels)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class QuestionAnsweringOutput(ModelOutput):
    """Output of extractive question answering: scores of every position, (batch, sequence) each, as
    the answer's first and last token."""

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    hidden_states: States = None
    attentions: States = None


@dataclasses.dataclass
class Seq2SeqModelOutput(ModelOutput):
    """Output of an encoder-decoder without a head.

    last_hidden_state: (batch, target sequence, width), of the decoder.
    cross_attentions: the decoder's weights on the source, (batch, heads, target, source) per block.
    encoder_last_hidden_state: (batch, source sequence, width).
    """

    last_hidden_state: Tensor
    past_key_values: KeyValueCache | None = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    cross_attentions: States = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None


@dataclasses.dataclass
class Seq2SeqLMOutput(ModelOutput):
    """Output of a translation or summarisation model; loss and logits as in `CausalLMOutput`, the rest
    as in `Seq2SeqModelOutput`."""

    loss: Tensor | None = None
    logits: Any = DeferredField()  # Tensor | None
    past_key_values: KeyValueCache | None = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    cross_attentions: States = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None


@dataclasses.dataclass
class Seq2SeqSequenceClassifierOutput(ModelOutput):
    """Output of an encoder-decoder that classifies texts: logits, (batch, num_labels); the rest as in
    `Seq2SeqModelOutput`."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: KeyValueCache | None = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    cross_attentions: States = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None
