"""The configuration of the original Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.errors import ConfigError
from pymodel.models.seq2seq_config import Seq2SeqConfig


@dataclass(init=False)
class TransformerConfig(Seq2SeqConfig):
    """What decides the shape and the numbers of a Transformer; the defaults are the paper's base model
    (table 3).

    Args: those of `Seq2SeqConfig`, and
        norm_first: normalise what goes into a branch instead of the sum that comes out, which trains more
            stably when deep (Xiong et al., "On Layer Normalization in the Transformer Architecture",
            arXiv:2002.04745).
        label_smoothing: the share of probability that the loss of a training step spreads over all tokens
            (section 5.4).
    """

    model_type: ClassVar[str] = "transformer"

    vocab_size: int = 37000
    d_model: int = 512
    encoder_layers: int = 6
    encoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_layers: int = 6
    decoder_attention_heads: int = 8
    decoder_ffn_dim: int = 2048
    activation_function: str = "relu"
    scale_embedding: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 1
    norm_first: bool = False
    label_smoothing: float = 0.1

    def validate(self) -> None:
        super().validate()
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ConfigError(f"label_smoothing must lie between 0 and 1, got {self.label_smoothing}")

    @property
    def normalizes_first(self) -> bool:
        """Whether layer norms come before the branches of a block."""
        return self.norm_first
