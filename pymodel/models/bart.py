"""BART: an encoder-decoder with learned positions, trained to mend damaged text.

Source: Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation,
Translation, and Comprehension", arXiv:1910.13461.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pymodel import nn
from pymodel.models.bart_config import BartConfig
from pymodel.models.decoder import kept_states
from pymodel.models.heads import ClassificationHead
from pymodel.models.inputs import token_ids
from pymodel.models.losses import text_loss
from pymodel.models.outputs import Seq2SeqSequenceClassifierOutput
from pymodel.models.seq2seq_families import BlocksLanguageModel, BlocksModel, BlocksPretrainedModel
from pymodel.tensor import Tensor

_OFFSET = 2  # rows of the position tables before position 0, a habit of fairseq


class LearnedPositions(nn.Embedding):
    """A trained vector for each of `count` positions."""

    def __init__(self, count: int, width: int, **where: Any) -> None:
        super().__init__(count + _OFFSET, width, **where)

    def forward(self, positions: Tensor) -> Tensor:
        """Takes positions (...), from 0; returns (..., width)."""
        return super().forward(positions + _OFFSET)


class BartPretrainedModel(BlocksPretrainedModel):
    """What all BART models share: the configuration, and what checkpoints may hold."""

    config_class = BartConfig
    ignored_on_load = (r"^(model\.)?(encoder|decoder)\.version$",)
    optional_weights = (r"^lm_head\.", r"^final_logits_bias$", r"^classification_head\.", r"^qa_outputs\.")
    # A target that nobody gave is the source: BART learned to write down what it reads.
    decodes_source = True


class BartModel(BartPretrainedModel, BlocksModel):
    """Encoder and decoder, without a head.

    Args: as `BlocksModel`.
    """

    def positions(self, **where: Any) -> nn.Module:
        """A trained table."""
        return LearnedPositions(self.config.max_position_embeddings, self.config.d_model, **where)


class BartForConditionalGeneration(BartPretrainedModel, BlocksLanguageModel):
    """BART with a head that writes text.

    Args: as `BlocksModel`.
    """

    body_class = BartModel
    has_logits_bias = True


class BartForSequenceClassification(BartPretrainedModel):
    """BART that classifies texts, or with one label predicts a number: what the decoder, reading the text
    too, makes of its last end token.

    Args: as `BlocksModel`.
    """

    def __init__(self, config: BartConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.model = BartModel(config, dtype, device)
        options = (config.d_model, config.num_labels, config.classifier_dropout)
        with nn.init.no_init():
            self.classification_head = ClassificationHead(*options, dtype=dtype, device=device)
        head = {name for name, _ in self.named_parameters() if name.startswith("classification_head.")}
        self.init_weights(head)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        labels: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> Seq2SeqSequenceClassifierOutput:
        """The scores of the classes, and with labels the loss.

        Args:
            input_ids: (batch, sequence) token ids, each row with an end token.
            attention_mask, decoder_input_ids, decoder_attention_mask, encoder_outputs,
                output_hidden_states, output_attentions: as in `Seq2SeqModel`.
            labels: as in `losses.text_loss`.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        ids = token_ids(input_ids, self.config.vocab_size)
        ends = self._end_tokens(ids)
        output = self._states(
            ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            None,
            False,
            (output_hidden_states, output_attentions),
        )
        logits = self.classification_head(kept_states(output.last_hidden_state, ends)[:, 0])
        loss = None if labels is None else text_loss(logits, labels, self.config)
        rest = {f.name: getattr(output, f.name) for f in dataclasses.fields(output)[1:]}
        return Seq2SeqSequenceClassifierOutput(loss, logits, **rest)

    def _end_tokens(self, ids: np.ndarray) -> np.ndarray:
        """The position of every row's last end token, (batch,)."""
        end = self.config.eos_token_id
        is_end = np.isin(ids, [] if end is None else end)
        if not is_end.any(axis=1).all():
            row = int(is_end.any(axis=1).argmin())
            raise ValueError(
                f"input_ids: row {row} holds no end token ({end}), which stands for the "
                "text; put one behind it"
            )
        return np.asarray(ids.shape[1] - 1 - is_end[:, ::-1].argmax(axis=1))
