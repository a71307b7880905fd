"""BART's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.models.seq2seq_config import OLD_KEYS, Seq2SeqConfig, check_deviation


@dataclass(init=False)
class BartConfig(Seq2SeqConfig):
    """What decides the shape and the numbers of a BART; the defaults are those of bart-large.

    Args: those of `Seq2SeqConfig`, and
        init_std: standard deviation of initial weights.
        classifier_dropout: dropout in the head that classifies.
    """

    model_type: ClassVar[str] = "bart"
    aliases: ClassVar[dict[str, str]] = {**Seq2SeqConfig.aliases, "initializer_range": "init_std"}
    embedding_norm: ClassVar[bool] = True
    default_num_labels: ClassVar[int] = 3
    foreign_keys: ClassVar[frozenset[str]] = OLD_KEYS

    init_std: float = 0.02
    classifier_dropout: float = 0.0

    def validate(self) -> None:
        super().validate()
        check_deviation(self)
