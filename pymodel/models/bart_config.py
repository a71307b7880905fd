"""BART's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.models.seq2seq_config import OLD_KEYS, Seq2SeqConfig


@dataclass(init=False)
class BartConfig(Seq2SeqConfig):
    """What decides the shape and the numbers of a BART; the defaults are those of bart-large.

    Args: those of `Seq2SeqConfig`, and
        classifier_dropout: dropout in the head that classifies.
    """

    model_type: ClassVar[str] = "bart"
    embedding_norm: ClassVar[bool] = True
    foreign_keys: ClassVar[frozenset[str]] = OLD_KEYS

    classifier_dropout: float = 0.0
