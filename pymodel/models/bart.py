"""BART: an encoder-decoder with learned positions, trained to mend damaged text.

Source: Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation,
Translation, and Comprehension", arXiv:1910.13461.
"""

from __future__ import annotations

from typing import Any

from pymodel import nn
from pymodel.models.bart_config import BartConfig
from pymodel.models.seq2seq import Seq2SeqLanguageModel, Seq2SeqModel, Seq2SeqPretrainedModel
from pymodel.models.seq2seq_blocks import Decoder, Encoder
from pymodel.tensor import Tensor, zeros

_OFFSET = 2  # rows of the position tables before position 0, as in fairseq's dictionary of padding


class LearnedPositions(nn.Embedding):
    """A trained vector for each of `count` positions."""

    def __init__(self, count: int, width: int, **where: Any) -> None:
        super().__init__(count + _OFFSET, width, **where)

    def forward(self, positions: Tensor) -> Tensor:
        """Takes positions (...), from 0; returns (..., width)."""
        return super().forward(positions + _OFFSET)


class BartPretrainedModel(Seq2SeqPretrainedModel):
    """What all BART models share: the configuration, tied weights and initial ones."""

    config_class = BartConfig
    base_model_prefix = "model"
    ignored_on_load = (r"^(model\.)?(encoder|decoder)\.version$",)
    optional_weights = (r"^lm_head\.", r"^final_logits_bias$", r"^classification_head\.", r"^qa_outputs\.")
    decodes_source = True

    config: BartConfig

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names that checkpoints leave out, and the parameters they share."""
        if not self.config.tie_word_embeddings:
            return {}
        prefix = "" if self.body is self else f"{self.base_model_prefix}."
        names = [f"{prefix}{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
        if isinstance(self, Seq2SeqLanguageModel):
            names.append("lm_head.weight")
        return dict.fromkeys(names, f"{prefix}shared.weight")

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Draws the initial values of one parameter: normal with deviation `init_std`, biases and the
        embedding of padding 0 and the weights of layer norms 1."""
        super().init_parameter(name, parameter)
        is_embedding = name.endswith(("shared.weight", "embed_tokens.weight"))
        if is_embedding and self.config.pad_token_id is not None:
            nn.init.zeros_(Tensor(parameter._array.select(0, self.config.pad_token_id)))


class BartModel(BartPretrainedModel, Seq2SeqModel):
    """Encoder and decoder, without a head.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
    """

    def __init__(self, config: BartConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        count, width = config.max_position_embeddings, config.d_model
        with nn.init.no_init():
            self.shared = nn.Embedding(config.vocab_size, width, config.pad_token_id, **where)
            self.encoder = Encoder(config, LearnedPositions(count, width, **where), **where)
            self.decoder = Decoder(config, LearnedPositions(count, width, **where), **where)
        if config.tie_word_embeddings:
            self.encoder.embed_tokens.weight = self.shared.weight
            self.decoder.embed_tokens.weight = self.shared.weight
        self.init_weights()


class BartForConditionalGeneration(BartPretrainedModel, Seq2SeqLanguageModel):
    """BART with a head that writes text; the head is the token embedding when tied.

    Args: as `BartModel`.
    """

    final_logits_bias: Tensor

    def __init__(self, config: BartConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.model = BartModel(config, dtype, device)
        self.register_buffer("final_logits_bias", zeros((1, config.vocab_size), dtype, device))
        with nn.init.no_init():
            self.lm_head = nn.Linear(
                config.d_model, config.vocab_size, bias=False, dtype=dtype, device=device
            )
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.shared.weight
        else:
            self.init_parameter("lm_head.weight", self.lm_head.weight)

    @property
    def head_bias(self) -> Tensor | None:
        """(vocab_size,), which checkpoints hold and no training changes."""
        return self.final_logits_bias.view(self.config.vocab_size)
