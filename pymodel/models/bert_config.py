"""BERT's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.errors import ConfigError
from pymodel.models.checks import check_activation, check_divides, check_positive, check_probability
from pymodel.models.config import PretrainedConfig


@dataclass(init=False)
class BertConfig(PretrainedConfig):
    """What decides the shape and the numbers of a BERT; keys of Hugging Face's `config.json`.

    Args:
        vocab_size: rows of the token embedding.
        hidden_size, num_hidden_layers, num_attention_heads: width, blocks, and attention heads, which
            divide the width.
        intermediate_size: width inside the feed-forward network.
        hidden_act: its activation, by Hugging Face's name; the head for masked tokens has the same.
        hidden_dropout_prob, attention_probs_dropout_prob: dropout of the embeddings and the branches'
            outputs, and of the attention weights.
        classifier_dropout: before a classifier; hidden_dropout_prob when None.
        max_position_embeddings: rows of the table of positions, the longest text.
        type_vocab_size: kinds of tokens, such as a pair's first and second text.
        initializer_range: standard deviation of initial weights.
        layer_norm_eps: added to variances.
        position_embedding_type: only "absolute", a table, is built in.
        tie_word_embeddings: the head for masked tokens is the token embedding.
        pad_token_id: the token for padding, whose embedding is not trained.
        bos_token_id, eos_token_id: tokens that begin and end a text, where a tokenizer has such.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    model_type: ClassVar[str] = "bert"
    foreign_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "directionality",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        }
    )

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def validate(self) -> None:
        check_positive(
            self,
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        )
        check_divides(self, "num_attention_heads", "hidden_size")
        check_probability(self, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        check_activation(self, "hidden_act")
        check_encoder_tokens(self)
        if not self.layer_norm_eps > 0 or not self.initializer_range >= 0:
            raise ConfigError("layer_norm_eps must be above 0 and initializer_range not below it")
        if self.position_embedding_type != "absolute":
            raise ConfigError(
                f"position_embedding_type {self.position_embedding_type!r} is not built in; "
                "expected 'absolute'"
            )
        if self.is_decoder or self.add_cross_attention:
            raise ConfigError("is_decoder and add_cross_attention must be false: this model is an encoder")

    @property
    def head_dropout(self) -> float:
        """Dropout before a classifier."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


def check_encoder_tokens(config: PretrainedConfig) -> None:
    """Raises ConfigError for a padding token that the vocabulary does not have."""
    token, size = config.pad_token_id, config.vocab_size
    if token is not None and not 0 <= token < size:
        raise ConfigError(f"pad_token_id must lie between 0 and {size - 1}, vocab_size - 1, got {token}")
