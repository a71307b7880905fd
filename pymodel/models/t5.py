"""T5: an encoder-decoder that knows positions by their distance alone.

Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
arXiv:1910.10683.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np

from pymodel import nn, ops
from pymodel.models.checkpoint import WeightFiles
from pymodel.models.encoder_layout import EncoderLayout
from pymodel.models.outputs import BaseModelOutput
from pymodel.models.seq2seq import Seq2SeqLanguageModel, Seq2SeqModel, Seq2SeqPretrainedModel
from pymodel.models.seq2seq_layout import Shown, Source, Target
from pymodel.models.seq2seq_stacks import Seq2SeqDecoder, Seq2SeqEncoder, Stack
from pymodel.models.t5_blocks import T5DecoderBlock, T5EncoderBlock, T5Norm, stream_dtype
from pymodel.models.t5_config import T5Config
from pymodel.tensor import Tensor, tensor


class T5Stack(Stack):
    """What encoder and decoder share: blocks between the embedding and the last norm."""

    def __init__(self, config: T5Config, embed_tokens: nn.Embedding, blocks: list[Any], **where: Any) -> None:
        self.dropout_p = config.dropout_rate
        self.embed_tokens = embed_tokens
        self.block = nn.ModuleList(blocks)
        self.final_layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon, **where)

    def through_blocks(
        self, ids: Tensor, positions: np.ndarray, keys: int, states: list[Tensor] | None, *seen: Any
    ) -> Tensor:
        """The last hidden states of token ids, (...): queries at `positions` look at `keys` keys; every
        block gets x, the bias of distances and `seen`."""
        x = self.embed_tokens(ids)
        x = ops.dropout(ops.cast(x, stream_dtype(x.dtype)), self.dropout_p, self.training)
        bias = self.block[0].layer[0].SelfAttention.position_bias(positions, keys)
        for block in self.block:
            if states is not None:
                states.append(x)
            x = block(x, bias, *seen)
        return ops.dropout(self.final_layer_norm(x), self.dropout_p, self.training)


class T5Encoder(T5Stack, Seq2SeqEncoder):
    """Reads the source."""

    by_distance = True

    def __init__(self, config: T5Config, embed_tokens: nn.Embedding, **where: Any) -> None:
        blocks = [T5EncoderBlock(config, i, **where) for i in range(config.num_layers)]
        super().__init__(config, embed_tokens, blocks, **where)

    def _run(self, ids: np.ndarray, layout: EncoderLayout, shown: Shown) -> Tensor:
        length = layout.longest if layout.packed else layout.sequence
        return self.through_blocks(layout.place(ids), np.arange(length), length, shown.states, layout, shown)


class T5Decoder(T5Stack, Seq2SeqDecoder):
    """Writes the target."""

    def __init__(self, config: T5Config, embed_tokens: nn.Embedding, **where: Any) -> None:
        blocks = [T5DecoderBlock(config, i, **where) for i in range(config.decoder_blocks)]
        super().__init__(config, embed_tokens, blocks, **where)

    def _run(self, ids: np.ndarray, target: Target, source: Source, shown: Shown) -> Tensor:
        past = 0 if target.cache is None else target.cache.get_seq_length()
        placed = tensor(ids, device=self.embed_tokens.weight.device)
        positions = target.layout.positions
        return self.through_blocks(
            placed, positions, past + ids.shape[1], shown.states, target, source, shown
        )


class T5PretrainedModel(Seq2SeqPretrainedModel):
    """What all T5 models share: the configuration, tied weights and initial ones."""

    config_class = T5Config
    # A table that the first checkpoints hold and no T5 reads.
    ignored_on_load = (r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",)
    optional_weights: ClassVar[tuple[str, ...]] = (r"^lm_head\.",)

    config: T5Config
    shared: nn.Embedding

    def _embedding(self, **where: Any) -> nn.Embedding:
        return nn.Embedding(self.config.vocab_size, self.config.d_model, **where)

    def _embedding_of(self, side: str, **where: Any) -> nn.Embedding:
        """That of the encoder or the decoder."""
        untied = side in (self.config.untied_embeddings or ())
        return self._embedding(**where) if untied else self.shared

    @classmethod
    def fitted_config(cls, config: Any, files: WeightFiles) -> Any:
        """Unties the embeddings and the head of which a checkpoint holds one of their own: transformers 5
        writes tie_word_embeddings as true in every case and goes by the tensors."""
        sides = {f"{side}.embed_tokens.weight": side for side in ("encoder", "decoder")}
        names = [name for name in ("shared.weight", *sides, "lm_head.weight") if name in files]
        # Where shared.weight is missing, the first of the others stands for it.
        own = [name for name in names[1:] if not np.array_equal(files.read(names[0]), files.read(name))]
        config = copy.deepcopy(config)
        config.untied_embeddings = [sides[name] for name in own if name in sides] or None
        config.tie_word_embeddings = config.tie_word_embeddings and "lm_head.weight" not in own
        return config

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names that checkpoints leave out, and the parameters they share."""
        sides = ("encoder", "decoder")
        own = self.config.untied_embeddings or ()
        names = [f"{side}.embed_tokens.weight" for side in sides if hasattr(self, side) and side not in own]
        if isinstance(self, Seq2SeqLanguageModel) and self.config.tie_word_embeddings:
            names.append("lm_head.weight")
        return dict.fromkeys(names, "shared.weight")

    @property
    def cache_extents(self) -> tuple[int, int, int]:
        """Blocks, heads and head_dim of the decoder."""
        return self.config.decoder_blocks, self.config.num_heads, self.config.d_kv

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Draws the initial values of one parameter, as Mesh TensorFlow did: normal, with a variance of one
        over what is summed up, and for queries also over d_kv, since scores are not scaled."""
        config = self.config
        inner = config.num_heads * config.d_kv
        deviations = {
            "shared": 1.0,
            "embed_tokens": 1.0,
            "lm_head": 1.0,
            "q": (config.d_model * config.d_kv) ** -0.5,
            "o": inner**-0.5,
            "wo": config.d_ff**-0.5,
        }
        module = name.split(".")[-2]
        if parameter.ndim == 1:
            nn.init.constant_(parameter, config.initializer_factor)
        else:
            deviation = deviations.get(module, config.d_model**-0.5)
            nn.init.normal_(parameter, std=config.initializer_factor * deviation)


class T5Model(T5PretrainedModel, Seq2SeqModel):
    """Encoder and decoder, without a head.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
    """

    def __init__(self, config: T5Config, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            self.shared = self._embedding(**where)
            self.encoder = T5Encoder(config, self._embedding_of("encoder", **where), **where)
            self.decoder = T5Decoder(config, self._embedding_of("decoder", **where), **where)
        self.init_weights()


class T5ForConditionalGeneration(T5PretrainedModel, Seq2SeqLanguageModel):
    """T5 with a head that writes text, which is the token embedding when tied.

    Args: as `T5Model`.
    """

    def __init__(self, config: T5Config, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            self.shared = self._embedding(**where)
            self.encoder = T5Encoder(config, self._embedding_of("encoder", **where), **where)
            self.decoder = T5Decoder(config, self._embedding_of("decoder", **where), **where)
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False, **where)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.shared.weight
        self.init_weights()

    def head_states(self, states: Tensor) -> Tensor:
        """The states, divided by sqrt(d_model) where the head's weights are those of the embedding, which
        has a deviation of 1."""
        return states * self.config.d_model**-0.5 if self.config.scale_decoder_outputs else states


class T5EncoderModel(T5PretrainedModel):
    """The encoder alone, for embeddings of texts; it reads checkpoints of the whole model too.

    Args: as `T5Model`.
    """

    optional_weights: ClassVar[tuple[str, ...]] = (r"^lm_head\.", r"^decoder\.")

    def __init__(self, config: T5Config, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            self.shared = self._embedding(**where)
            self.encoder = T5Encoder(config, self._embedding_of("encoder", **where), **where)
        self.init_weights()

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> BaseModelOutput:
        """The hidden states of a text; arguments, result and errors as in `Seq2SeqEncoder`."""
        output: BaseModelOutput = self.encoder(
            input_ids, attention_mask, output_hidden_states, output_attentions, padding_is_read
        )
        return output
