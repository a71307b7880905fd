"""DistilBERT's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.errors import ConfigError
from pymodel.models.bert_config import check_encoder_tokens
from pymodel.models.checks import check_activation, check_divides, check_positive, check_probability
from pymodel.models.config import PretrainedConfig


@dataclass(init=False)
class DistilBertConfig(PretrainedConfig):
    """What decides the shape and the numbers of a DistilBERT; keys of Hugging Face's `config.json`.

    Args:
        vocab_size: rows of the token embedding.
        dim, n_layers, n_heads: width, blocks, and attention heads, which divide the width.
        hidden_dim: width inside the feed-forward network.
        activation: of it, by Hugging Face's name; the head for masked tokens has the same.
        dropout, attention_dropout: of the embeddings and the branches' outputs, and of the attention
            weights.
        seq_classif_dropout, qa_dropout: in the heads for texts and for answers.
        max_position_embeddings: rows of the table of positions, the longest text.
        sinusoidal_pos_embds: sines and cosines are the initial values of that table.
        initializer_range: standard deviation of initial weights.
        tie_word_embeddings: the head for masked tokens is the token embedding.
        pad_token_id: the token for padding, whose embedding is not trained.
        bos_token_id, eos_token_id: tokens that begin and end a text, where a tokenizer has such.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    model_type: ClassVar[str] = "distilbert"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }
    foreign_keys: ClassVar[frozenset[str]] = frozenset({"tie_weights_"})
    type_vocab_size: ClassVar[int] = 0  # tokens are of one type
    layer_norm_eps: ClassVar[float] = 1e-12

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def validate(self) -> None:
        check_positive(
            self, "vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim"
        )
        check_divides(self, "n_heads", "dim")
        check_probability(self, "dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout")
        check_activation(self, "activation")
        check_encoder_tokens(self)
        if not self.initializer_range >= 0:
            raise ConfigError(f"initializer_range must not be below 0, got {self.initializer_range}")
