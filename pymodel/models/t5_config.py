"""T5's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pymodel.errors import ConfigError
from pymodel.models.checks import ACTIVATIONS, check_positive, check_probability
from pymodel.models.config import PretrainedConfig

_SIDES = ("encoder", "decoder")
_LEAST_BUCKETS = 4  # one for the distance 0 and one beyond, in either direction


@dataclass(init=False)
class T5Config(PretrainedConfig):
    """What decides the shape and the numbers of a T5; keys of Hugging Face's `config.json`.

    Args:
        vocab_size: rows of the token embedding.
        d_model, d_kv, d_ff: width of the states, of a head, and inside the feed-forward networks.
        num_layers, num_decoder_layers: blocks of encoder and decoder; as many when None.
        num_heads: attention heads; they need not divide the width.
        relative_attention_num_buckets: distances that the bias of attention tells apart.
        relative_attention_max_distance: from there on all distances are the same.
        dropout_rate: of embeddings, branches, attention weights and inside the feed-forward networks.
        layer_norm_epsilon: added to mean squares.
        initializer_factor: multiplies the deviations of all initial weights.
        feed_forward_proj: an activation by Hugging Face's name, "relu" in the first T5, or one with a
            gate beside it, such as "gated-gelu" in version 1.1.
        tie_word_embeddings: the output head is the token embedding.
        untied_embeddings: "encoder", "decoder" or both, where these embed tokens with a matrix of their own;
            reading a checkpoint sets it by the tensors there, and `config.json` does not hold it.
        scale_decoder_outputs: divide the head's input by the square root of the width; as
            tie_word_embeddings when None.
        classifier_dropout: of heads that classify.
        eos_token_id, pad_token_id: tokens that end and pad a text.
        decoder_start_token_id: the token that every target starts with.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    model_type: ClassVar[str] = "t5"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }
    foreign_keys: ClassVar[frozenset[str]] = frozenset({"dense_act_fn", "is_gated_act", "n_positions"})

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    untied_embeddings: list[str] | None = None
    scale_decoder_outputs: bool | None = None
    classifier_dropout: float = 0.0
    use_cache: bool = True
    is_encoder_decoder: bool = True
    eos_token_id: int | list[int] | None = 1
    pad_token_id: int | None = 0
    decoder_start_token_id: int | None = 0

    def validate(self) -> None:
        # transformers derives these from feed_forward_proj too, which may have been replaced.
        self.foreign.pop("dense_act_fn", None)
        self.foreign.pop("is_gated_act", None)
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        if self.scale_decoder_outputs is None:
            self.scale_decoder_outputs = self.tie_word_embeddings
        check_positive(self, "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers")
        check_positive(self, "num_heads")
        check_probability(self, "dropout_rate", "classifier_dropout")
        if any(side not in _SIDES for side in self.untied_embeddings or ()):
            raise ConfigError(
                f"untied_embeddings must name {' or '.join(_SIDES)}, got {self.untied_embeddings}; "
                "leave it out where both embed tokens with the shared matrix"
            )
        if not self.layer_norm_epsilon > 0 or not self.initializer_factor >= 0:
            raise ConfigError("layer_norm_epsilon must be above 0 and initializer_factor not below it")
        if self.relative_attention_num_buckets < _LEAST_BUCKETS:
            raise ConfigError(
                f"relative_attention_num_buckets must be at least {_LEAST_BUCKETS}, "
                f"got {self.relative_attention_num_buckets}"
            )
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 2:
            raise ConfigError(
                "relative_attention_max_distance must be above half of relative_attention_num_buckets "
                f"{self.relative_attention_num_buckets}, got {self.relative_attention_max_distance}"
            )
        if self.feed_forward_proj.removeprefix("gated-") not in ACTIVATIONS:
            raise ConfigError(
                f"feed_forward_proj {self.feed_forward_proj!r} is not built in; expected one of "
                f"{', '.join(ACTIVATIONS)}, or gated- before it"
            )

    def to_dict(self) -> dict[str, Any]:
        """All keys of `config.json`; transformers has no untied_embeddings but goes by the tensors too."""
        values = super().to_dict()
        del values["untied_embeddings"]
        return values

    @property
    def is_gated_act(self) -> bool:
        """Whether the feed-forward networks have a gate."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def dense_act_fn(self) -> str:
        """The activation of the feed-forward networks; "gated-gelu" has always meant its approximation."""
        name = self.feed_forward_proj.removeprefix("gated-")
        return "gelu_new" if self.is_gated_act and name == "gelu" else name

    @property
    def decoder_blocks(self) -> int:
        """Blocks of the decoder."""
        return self.num_decoder_layers or self.num_layers

    @property
    def source_vocab_size(self) -> int:
        """Tokens of the encoder."""
        return self.vocab_size

    @property
    def target_vocab_size(self) -> int:
        """Tokens of the decoder and the head."""
        return self.vocab_size
