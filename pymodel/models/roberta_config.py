"""RoBERTa's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.errors import ConfigError
from pymodel.models.bert_config import BertConfig


@dataclass(init=False)
class RobertaConfig(BertConfig):
    """What decides the shape and the numbers of a RoBERTa: the keys of `BertConfig`, other defaults.

    Positions are counted from pad_token_id + 1, so that a table of 514 rows serves texts of 512 tokens.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def validate(self) -> None:
        super().validate()
        if self.pad_token_id >= self.max_position_embeddings:
            raise ConfigError(
                f"pad_token_id must lie below max_position_embeddings, {self.max_position_embeddings}, since "
                f"positions are counted from it, got {self.pad_token_id}"
            )
