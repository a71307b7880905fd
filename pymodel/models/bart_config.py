"""BART's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.models.seq2seq_config import Seq2SeqConfig


@dataclass(init=False)
class BartConfig(Seq2SeqConfig):
    """What decides the shape and the numbers of a BART; the defaults are those of bart-large.

    Args: those of `Seq2SeqConfig`, and
        classifier_dropout: dropout in the head that classifies.
    """

    model_type: ClassVar[str] = "bart"
    embedding_norm: ClassVar[bool] = True
    # What old checkpoints say of variants that BART is not.
    foreign_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "_num_labels",
            "add_bias_logits",
            "add_final_layer_norm",
            "classif_dropout",
            "extra_pos_embeddings",
            "force_bos_token_to_be_generated",
            "normalize_before",
            "normalize_embedding",
            "save_step",
            "static_position_embeddings",
        }
    )

    classifier_dropout: float = 0.0
