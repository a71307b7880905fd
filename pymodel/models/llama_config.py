"""The configurations of Llama and of the families that differ from it in a few keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pymodel.errors import ConfigError
from pymodel.models.checks import check_activation, check_divides, check_positive, check_probability
from pymodel.models.config import PretrainedConfig
from pymodel.models.rope import RotaryPositions
from pymodel.models.rope_scaling import RopeParameters

FULL, SLIDING = "full_attention", "sliding_attention"


def _spelled_apart(values: dict[str, Any]) -> dict[str, Any]:
    """The keys of a configuration with those of `rope_parameters` as transformers 4 spells them.

    Of two spellings the later one counts: what a caller changes comes after what a file holds.
    """
    names = list(values)
    scaling = dict(values.pop("rope_parameters", None) or {})
    if not scaling:
        return values
    behind = names[names.index("rope_parameters") :]
    parts = {n: scaling.pop(n) for n in ("rope_theta", "partial_rotary_factor") if scaling.get(n) is not None}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    parts["rope_scaling"] = None if kind == "default" else scaling
    for name, value in parts.items():
        if name not in behind or values[name] is None:
            values[name] = value
    return values


@dataclass(init=False)
class LlamaFamilyConfig(PretrainedConfig):
    """The keys that all families have, of Hugging Face's `config.json`.

    The keys of rotary positions are read as transformers 5 writes them (`rope_parameters`) and as 4 does
    (`rope_theta`, `rope_scaling`, `partial_rotary_factor`), and written the latter way, which both read.

    Args:
        vocab_size: rows of the token embedding.
        hidden_size, num_hidden_layers: width and number of blocks.
        intermediate_size: width inside the feed-forward network.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads, which divide the query heads; as many as those when None.
        head_dim: width of a head; hidden_size / num_attention_heads when None.
        hidden_act: of the gate of the feed-forward network, by Hugging Face's name.
        max_position_embeddings: the context, in tokens, to which `generate` keeps. Positions have no table: a
            call may be longer.
        initializer_range: standard deviation of initial weights.
        rms_norm_eps: added to mean squares.
        rope_theta, rope_scaling, partial_rotary_factor: of rotary positions, see `RopeParameters`.
        attention_dropout: of the attention weights.
        tie_word_embeddings: the output head is the token embedding.
        bos_token_id, eos_token_id, pad_token_id: tokens that begin, end and pad a text.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    # What conversion scripts of checkpoints leave behind.
    foreign_keys: ClassVar[frozenset[str]] = frozenset(
        {"is_llama_config", "max_sequence_length", "rope_interleaved", "transformers.js_config", "use_mrope"}
    )

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    partial_rotary_factor: float = 1.0
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __init__(self, source: str = "", /, **values: Any) -> None:
        given = values.get("rope_parameters")
        if given is not None and not isinstance(given, dict):
            where = source or type(self).__name__
            raise ConfigError(f"{where}: rope_parameters must be a JSON object, got {given!r}")
        super().__init__(source, **_spelled_apart(values))

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """All keys of rotary positions in one, as transformers 5 has them."""
        scaling = self.rope_scaling or {"rope_type": "default"}
        theta, share = self.rope_theta, self.partial_rotary_factor
        return {"rope_theta": theta, "partial_rotary_factor": share, **scaling}

    def validate(self) -> None:
        check_positive(
            self, "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim",
            "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
        )  # fmt: skip
        if self.head_dim is None:
            check_divides(self, "num_attention_heads", "hidden_size")
        # Numbers from here on: transformers reads no null for some of these families.
        self.head_dim, self.num_key_value_heads = self.head_width, self.key_heads
        check_divides(self, "num_key_value_heads", "num_attention_heads")
        check_probability(self, "attention_dropout")
        check_activation(self, "hidden_act")
        if not self.rms_norm_eps > 0 or not self.initializer_range >= 0:
            raise ConfigError("rms_norm_eps must be above 0 and initializer_range not below it")
        self.rotary_positions()

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim

    @property
    def key_heads(self) -> int:
        """Key and value heads."""
        return self.num_attention_heads if self.num_key_value_heads is None else self.num_key_value_heads

    def rotary_positions(self) -> RotaryPositions:
        """What turns positions into angles."""
        parameters = RopeParameters.from_dict(self.rope_parameters)
        return RotaryPositions(parameters, self.head_width, self.max_position_embeddings)

    def biases(self) -> tuple[bool, bool, bool]:
        """Whether there are biases in the projections to queries, keys and values, in the one back, and in
        the feed-forward network."""
        return False, False, False

    def window(self, layer: int) -> int | None:
        """How many of the latest tokens a token of this block sees, itself included; None for all."""
        return None


@dataclass(init=False)
class LlamaConfig(LlamaFamilyConfig):
    """Llama and what copies it, such as SmolLM2.

    Args: as `LlamaFamilyConfig`, and
        attention_bias, mlp_bias: whether attention and feed-forward network have biases.
        pretraining_tp: has no effect.

    Source: Touvron et al., "LLaMA", arXiv:2302.13971.
    """

    model_type: ClassVar[str] = "llama"

    attention_bias: bool = False
    mlp_bias: bool = False
    pretraining_tp: int | None = 1
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def biases(self) -> tuple[bool, bool, bool]:
        """As the configuration says."""
        return self.attention_bias, self.attention_bias, self.mlp_bias


@dataclass(init=False)
class MistralConfig(LlamaFamilyConfig):
    """Mistral: every token sees the latest ones only.

    Args: as `LlamaFamilyConfig`, and
        sliding_window: how many, itself included; None for all.

    Source: Jiang et al., "Mistral 7B", arXiv:2310.06825.
    """

    model_type: ClassVar[str] = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def validate(self) -> None:
        super().validate()
        check_positive(self, "sliding_window")

    def window(self, layer: int) -> int | None:
        """The same in every block."""
        return self.sliding_window


@dataclass(init=False)
class Qwen2Config(LlamaFamilyConfig):
    """Qwen2 and Qwen2.5: biases of queries, keys and values; windows in the upper blocks, when used.

    Args: as `LlamaFamilyConfig`, and
        use_sliding_window: whether there are windows at all.
        sliding_window: how many tokens a window shows, itself included.
        max_window_layers: blocks from the bottom that see everything.
        layer_types: "full_attention" or "sliding_attention" for each block, in the place of
            max_window_layers; None for what that says.

    Source: Yang et al., "Qwen2 Technical Report", arXiv:2407.10671.
    """

    model_type: ClassVar[str] = "qwen2"

    vocab_size: int = 151936
    intermediate_size: int = 22016
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None

    def validate(self) -> None:
        super().validate()
        check_positive(self, "sliding_window")
        if self.layer_types is None:
            return
        if len(self.layer_types) != self.num_hidden_layers or not {FULL, SLIDING} >= set(self.layer_types):
            raise ConfigError(
                f"layer_types must name {FULL!r} or {SLIDING!r} for each of the {self.num_hidden_layers} "
                f"blocks, got {self.layer_types}"
            )

    def biases(self) -> tuple[bool, bool, bool]:
        """Of queries, keys and values alone."""
        return True, False, False

    def window(self, layer: int) -> int | None:
        """In the blocks whose type says so."""
        if not self.use_sliding_window:
            return None
        if self.layer_types is None:
            return self.sliding_window if layer >= self.max_window_layers else None
        return self.sliding_window if self.layer_types[layer] == SLIDING else None
