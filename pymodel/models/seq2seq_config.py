"""The configuration that the families of BART's shape share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pymodel.errors import ConfigError
from pymodel.models.checks import check_activation, check_divides, check_positive, check_probability
from pymodel.models.config import PretrainedConfig

# What old checkpoints of BART and Marian say of variants that neither of them is.
OLD_KEYS = frozenset(
    {
        "_num_labels",
        "add_bias_logits",
        "add_final_layer_norm",
        "classif_dropout",
        "classifier_dropout",
        "extra_pos_embeddings",
        "force_bos_token_to_be_generated",
        "normalize_before",
        "normalize_embedding",
        "save_step",
        "static_position_embeddings",
    }
)


@dataclass(init=False)
class Seq2SeqConfig(PretrainedConfig):
    """What decides the shape and the numbers of an encoder-decoder; keys of Hugging Face's `config.json`.

    Args:
        vocab_size: rows of the token embedding.
        max_position_embeddings: the most tokens of a source or a target.
        d_model: width of the states.
        encoder_layers, encoder_attention_heads, encoder_ffn_dim: blocks of the encoder, their heads, which
            divide the width, and the width inside their feed-forward networks.
        decoder_layers, decoder_attention_heads, decoder_ffn_dim: those of the decoder.
        activation_function: of the feed-forward networks, by Hugging Face's name.
        dropout, attention_dropout, activation_dropout: of embeddings and branches, of the attention
            weights, and inside the feed-forward networks.
        encoder_layerdrop, decoder_layerdrop: probability of leaving out a block while training.
        scale_embedding: multiply token embeddings by the square root of the width.
        tie_word_embeddings: the embeddings of encoder and decoder and the output head are one matrix.
        bos_token_id, eos_token_id, pad_token_id: tokens that begin, end and pad a text.
        decoder_start_token_id: the token that every target starts with.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }
    embedding_norm: ClassVar[bool] = False  # whether a layer norm follows the embeddings

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    d_model: int = 1024
    encoder_layers: int = 12
    encoder_attention_heads: int = 16
    encoder_ffn_dim: int = 4096
    decoder_layers: int = 12
    decoder_attention_heads: int = 16
    decoder_ffn_dim: int = 4096
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    scale_embedding: bool = False
    tie_word_embeddings: bool = True
    use_cache: bool = True
    is_encoder_decoder: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 1
    decoder_start_token_id: int | None = 2

    def validate(self) -> None:
        check_positive(self, "vocab_size", "max_position_embeddings", "d_model")
        for side in ("encoder", "decoder"):
            check_positive(self, f"{side}_layers", f"{side}_attention_heads", f"{side}_ffn_dim")
            check_divides(self, f"{side}_attention_heads", "d_model")
            check_probability(self, f"{side}_layerdrop")
        check_probability(self, "dropout", "attention_dropout", "activation_dropout")
        check_activation(self, "activation_function")
        padding, tokens = self.pad_token_id, min(self.vocab_size, self.target_vocab_size)
        if padding is not None and not 0 <= padding < tokens:
            raise ConfigError(f"pad_token_id must be a token, 0 to {tokens - 1}, got {padding}")

    @property
    def normalizes_first(self) -> bool:
        """Whether layer norms come before the branches of a block, instead of after the sum."""
        return False

    @property
    def shares_embeddings(self) -> bool:
        """Whether encoder and decoder may embed tokens with one matrix."""
        return True

    @property
    def source_vocab_size(self) -> int:
        """Tokens of the encoder."""
        return self.vocab_size

    @property
    def target_vocab_size(self) -> int:
        """Tokens of the decoder and the head."""
        return self.vocab_size


def check_deviation(config: Any) -> None:
    """Raises ConfigError unless `init_std` is a deviation."""
    if not config.init_std >= 0:
        raise ConfigError(f"init_std must be at least 0, got {config.init_std}")
