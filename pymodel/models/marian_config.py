"""Marian's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.errors import ConfigError
from pymodel.models.checks import check_positive
from pymodel.models.seq2seq_config import OLD_KEYS, Seq2SeqConfig, check_deviation


@dataclass(init=False)
class MarianConfig(Seq2SeqConfig):
    """What decides the shape and the numbers of a Marian translator.

    Args: those of `Seq2SeqConfig`, and
        init_std: standard deviation of initial weights.
        share_encoder_decoder_embeddings: source and target have one vocabulary and one embedding.
        decoder_vocab_size: tokens of the target; vocab_size when None, as it must be where they share.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    model_type: ClassVar[str] = "marian"
    aliases: ClassVar[dict[str, str]] = {**Seq2SeqConfig.aliases, "initializer_range": "init_std"}
    foreign_keys: ClassVar[frozenset[str]] = OLD_KEYS

    vocab_size: int = 58101
    init_std: float = 0.02
    decoder_vocab_size: int | None = None
    share_encoder_decoder_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 0
    pad_token_id: int | None = 58100
    decoder_start_token_id: int | None = 58100

    def validate(self) -> None:
        if self.decoder_vocab_size is None:
            self.decoder_vocab_size = self.vocab_size
        check_positive(self, "decoder_vocab_size")
        if self.share_encoder_decoder_embeddings and self.decoder_vocab_size != self.vocab_size:
            raise ConfigError(
                f"decoder_vocab_size must be vocab_size {self.vocab_size} with "
                f"share_encoder_decoder_embeddings, got {self.decoder_vocab_size}"
            )
        super().validate()
        check_deviation(self)

    @property
    def shares_embeddings(self) -> bool:
        """Whether encoder and decoder embed tokens with one matrix."""
        return self.share_encoder_decoder_embeddings

    @property
    def target_vocab_size(self) -> int:
        """Tokens of the decoder and the head."""
        return self.decoder_vocab_size or self.vocab_size
