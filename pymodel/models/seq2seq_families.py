"""What BART, Marian and the original Transformer share above their blocks: how the models are put together,
which embeddings are one, and where weights start."""

from __future__ import annotations

from typing import Any, ClassVar

from pymodel import nn
from pymodel.models.seq2seq import Seq2SeqLanguageModel, Seq2SeqModel, Seq2SeqPretrainedModel
from pymodel.models.seq2seq_blocks import Decoder, Encoder
from pymodel.models.seq2seq_config import Seq2SeqConfig
from pymodel.tensor import Tensor, zeros


class BlocksPretrainedModel(Seq2SeqPretrainedModel):
    """Base of all models made of `seq2seq_blocks`."""

    base_model_prefix = "model"

    config: Seq2SeqConfig

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names that checkpoints leave out, and the parameters they share."""
        if not self.config.tie_word_embeddings:
            return {}
        prefix = "" if self.body is self else f"{self.base_model_prefix}."
        head = ["lm_head.weight"] if isinstance(self, Seq2SeqLanguageModel) else []
        if not self.config.shares_embeddings:
            return dict.fromkeys(head, f"{prefix}decoder.embed_tokens.weight")
        sides = [f"{prefix}{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
        return dict.fromkeys(sides + head, f"{prefix}shared.weight")

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Draws the initial values of one parameter: normal with deviation `init_std`, biases and the
        embedding of padding 0 and the weights of layer norms 1."""
        super().init_parameter(name, parameter)
        self.clear_padding(name, parameter)

    def clear_padding(self, name: str, parameter: Tensor) -> None:
        """Makes the embedding of padding 0, if this parameter has it."""
        is_embedding = name.endswith(("shared.weight", "embed_tokens.weight"))
        if is_embedding and self.config.pad_token_id is not None:
            nn.init.zeros_(parameter.detach()[self.config.pad_token_id])

    def _tie(self) -> None:
        for name, shared in self.tied_weights.items():
            module, attribute = self._owner(name)
            source, source_attribute = self._owner(shared)
            setattr(module, attribute, getattr(source, source_attribute))

    def _owner(self, name: str) -> tuple[Any, str]:
        """The module that holds a parameter, and the parameter's name there."""
        module: Any = self
        *path, attribute = name.split(".")
        for part in path:
            module = getattr(module, part)
        return module, attribute


class BlocksModel(BlocksPretrainedModel, Seq2SeqModel):
    """Base of the bare models: encoder and decoder, and `shared`, the embedding of both where they share it.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
    """

    def __init__(self, config: Seq2SeqConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            if config.shares_embeddings:
                self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id, **where)
            self.encoder = Encoder(config, self.positions(**where), **where)
            self.decoder = Decoder(config, self.positions(**where), **where)
        self._tie()
        self.init_weights()

    def positions(self, **where: Any) -> nn.Module:
        """A module that embeds positions, (...) int64 below `max_position_embeddings`, as (..., d_model)."""
        raise NotImplementedError


class BlocksLanguageModel(BlocksPretrainedModel, Seq2SeqLanguageModel):
    """Base of the models that write a target: the bare model and a head, which is the decoder's token
    embedding when tied.

    `body_class` is that of the bare model; `has_logits_bias` whether checkpoints hold a constant for every
    token's score.

    Args: as `BlocksModel`.
    """

    body_class: ClassVar[type[BlocksModel]]
    has_logits_bias: ClassVar[bool] = False

    final_logits_bias: Tensor

    def __init__(self, config: Seq2SeqConfig, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.model = self.body_class(config, dtype, device)
        size = config.target_vocab_size
        if self.has_logits_bias:
            self.register_buffer("final_logits_bias", zeros((1, size), dtype, device))
        with nn.init.no_init():
            self.lm_head = nn.Linear(config.d_model, size, bias=False, dtype=dtype, device=device)
        if "lm_head.weight" not in self.tied_weights:
            self.init_parameter("lm_head.weight", self.lm_head.weight)
        self._tie()

    @property
    def head_bias(self) -> Tensor | None:
        """(target_vocab_size,), which no training changes."""
        return self.final_logits_bias.view(-1) if self.has_logits_bias else None
