"""GPT-2's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.errors import ConfigError
from pymodel.models.checks import check_activation, check_divides, check_positive, check_probability
from pymodel.models.config import PretrainedConfig


@dataclass(init=False)
class GPT2Config(PretrainedConfig):
    """What decides the shape and the numbers of a GPT-2; keys of Hugging Face's `config.json`.

    Args:
        vocab_size: rows of the token embedding.
        n_positions: the context, in tokens.
        n_embd, n_layer, n_head: width, blocks, and attention heads, which divide the width.
        n_inner: width inside the feed-forward network; four times n_embd when None.
        activation_function: of the feed-forward network, by Hugging Face's name.
        resid_pdrop, embd_pdrop, attn_pdrop: dropout of the branches' outputs, the embeddings and
            the attention weights.
        layer_norm_epsilon: added to variances.
        initializer_range: standard deviation of initial weights.
        scale_attn_weights: divide scores by the square root of the head's width.
        scale_attn_by_inverse_layer_idx: divide them by the block's number, from 1, too.
        reorder_and_upcast_attn: has no effect, scores are float32 here in every case.
        tie_word_embeddings: the output head is the token embedding.
        bos_token_id, eos_token_id, pad_token_id: tokens that begin, end and pad a text.

    Raises: ConfigError for unknown keys and numbers that do not fit.
    """

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    foreign_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "n_ctx",
            "summary_activation",
            "summary_first_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        }
    )

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None

    def validate(self) -> None:
        check_positive(self, "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")
        check_divides(self, "n_head", "n_embd")
        check_probability(self, "resid_pdrop", "embd_pdrop", "attn_pdrop")
        if not self.layer_norm_epsilon > 0 or not self.initializer_range >= 0:
            raise ConfigError("layer_norm_epsilon must be above 0 and initializer_range not below it")
        check_activation(self, "activation_function")
        if self.add_cross_attention:
            raise ConfigError("add_cross_attention must be false: this GPT-2 is a decoder alone")

    @property
    def inner_size(self) -> int:
        """Width inside the feed-forward network."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner
