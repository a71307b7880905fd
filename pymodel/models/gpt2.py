"""GPT-2: attention, feed-forward network, block, the bare model and the language model.

Names, layouts and initial values are those of Hugging Face's checkpoints: a checkpoint loads by
name, and Conv1D weights are (in, out).

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", OpenAI, 2019.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pymodel import nn, ops
from pymodel.models.attention import attend
from pymodel.models.cache import KeyValueCache
from pymodel.models.checks import ACTIVATIONS
from pymodel.models.decoder import CausalLanguageModel, DecoderModel, DecoderPretrainedModel
from pymodel.models.gpt2_config import GPT2Config
from pymodel.models.inputs import SequenceLayout, outside
from pymodel.tensor import Tensor, tensor


class ResidualBranch(nn.Module):
    """What ends a branch: its projection's output joins the residual stream.

    Without dropout the sum is made inside the projection's product. With dropout the branch is
    handed on, for the next layer norm to add in the pass in which it reads the sum anyway.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.dropout_p = config.resid_pdrop

    def pending_dropout(self) -> bool:
        """Whether dropout stands between the projection and the sum."""
        return self.training and self.dropout_p > 0.0


class GPT2Attention(ResidualBranch):
    """Causal self-attention of `n_head` heads; scores of block `layer` are scaled as configured."""

    def __init__(self, config: GPT2Config, layer: int, **where: Any) -> None:
        super().__init__(config)
        self.n_head = config.n_head
        self.head_dim = config.n_embd // config.n_head
        self.layer = layer
        self.attention_dropout_p = config.attn_pdrop
        self.scale = self.head_dim**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.c_attn = nn.Conv1D(3 * config.n_embd, config.n_embd, **where)
        self.c_proj = nn.Conv1D(config.n_embd, config.n_embd, **where)

    def forward(
        self,
        x: Tensor,
        residual: Tensor,
        layout: SequenceLayout,
        cache: KeyValueCache | None,
        weights: list[Tensor] | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Takes the normalised x, (batch, sequence, n_embd), and a list for the attention weights, if
        they are wanted; returns as `GPT2MLP`."""
        packed = self.c_attn(x)
        options: dict[str, Any] = {
            "causal": True,
            "scale": self.scale,
            "bias": layout.bias,
            "dropout_p": self.attention_dropout_p if self.training else 0.0,
        }
        if cache is None and weights is None:
            mixed = ops.attention_qkvpacked(packed, heads=self.n_head, lengths=layout.key_lengths, **options)
        else:
            batch, sequence, width = x.shape
            query, key, value = ops.unbind(packed.view(batch, sequence, 3, self.n_head, self.head_dim), 2)
            if cache is not None:
                key, value = cache.append(self.layer, key, value)
            options |= {"key_lengths": layout.key_lengths, "query_lengths": layout.query_lengths}
            mixed = attend(query, key, value, weights=weights, **options).view(batch, sequence, width)
        if self.pending_dropout():
            return ops.dropout(self.c_proj(mixed), self.dropout_p), residual
        return None, self.c_proj(mixed, residual)


class GPT2MLP(ResidualBranch):
    """The feed-forward network of a block."""

    def __init__(self, config: GPT2Config, **where: Any) -> None:
        super().__init__(config)
        self.activation = ACTIVATIONS[config.activation_function]
        self.c_fc = nn.Conv1D(config.inner_size, config.n_embd, **where)
        self.c_proj = nn.Conv1D(config.n_embd, config.inner_size, **where)

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor | None, Tensor]:
        """Takes the normalised x, (batch, sequence, n_embd).

        Returns: a branch that is still to be added, or None, and the residual stream.
        """
        pending = self.pending_dropout()
        y = ops.mlp(
            x,
            self.c_fc.weight,
            self.c_fc.bias,
            self.c_proj.weight,
            self.c_proj.bias,
            self.activation,
            residual=None if pending else residual,
            transposed=True,
        )
        return (ops.dropout(y, self.dropout_p), residual) if pending else (None, y)


class GPT2Block(nn.Module):
    """s = s + attention(ln_1(s));  s = s + mlp(ln_2(s))"""

    def __init__(self, config: GPT2Config, layer: int, **where: Any) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, **where)
        self.attn = GPT2Attention(config, layer, **where)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, **where)
        self.mlp = GPT2MLP(config, **where)

    def forward(
        self,
        branch: Tensor | None,
        residual: Tensor,
        layout: SequenceLayout,
        cache: KeyValueCache | None,
        weights: list[Tensor] | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Takes and returns a branch still to be added, or None, and the residual stream."""
        x, residual = add_and_normalise(self.ln_1, branch, residual)
        branch, residual = self.attn(x, residual, layout, cache, weights)
        x, residual = add_and_normalise(self.ln_2, branch, residual)
        output: tuple[Tensor | None, Tensor] = self.mlp(x, residual)
        return output


def add_and_normalise(norm: nn.LayerNorm, branch: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
    """The normalised sum of branch and residual stream, and the sum itself."""
    if branch is None:
        return norm(residual), residual
    y, total = norm(branch, residual)
    return y, total


class GPT2PretrainedModel(DecoderPretrainedModel):
    """What both models share: the configuration, the initial weights, the cache."""

    config_class = GPT2Config
    base_model_prefix = "transformer"
    # Masks that old checkpoints store beside the weights; attention makes its own.
    ignored_on_load = (r"\.attn\.bias$", r"\.attn\.masked_bias$")

    config: GPT2Config

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """Draws the initial values of one parameter: normal with deviation `initializer_range`,
        divided by sqrt(2 n_layer) where a projection adds to the residual stream, since 2 n_layer of
        them do. Biases are 0 and the weights of layer norms 1."""
        if name.endswith("c_proj.weight"):
            deviation = self.config.initializer_range / math.sqrt(2 * self.config.n_layer)
            nn.init.normal_(parameter, std=deviation)
        else:
            super().init_parameter(name, parameter)

    @property
    def cache_extents(self) -> tuple[int, int, int]:
        """Layers, heads and their width."""
        config = self.config
        return config.n_layer, config.n_head, config.n_embd // config.n_head


class GPT2Model(GPT2PretrainedModel, DecoderModel):
    """The stack of blocks, without a head.

    Args:
        config: its shape.
        dtype: of the parameters: float32, float16 or bfloat16.
        device: where they live.
    """

    def __init__(self, config: GPT2Config, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        with nn.init.no_init():
            self.wte = nn.Embedding(config.vocab_size, config.n_embd, **where)
            self.wpe = nn.Embedding(config.n_positions, config.n_embd, **where)
            self.h = nn.ModuleList([GPT2Block(config, layer, **where) for layer in range(config.n_layer)])
            self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, **where)
        self.init_weights()

    def _run(
        self,
        ids: np.ndarray,
        layout: SequenceLayout,
        cache: KeyValueCache | None,
        states: list[Tensor] | None,
        weights: list[Tensor] | None,
    ) -> Tensor:
        self._check_positions(layout.positions)
        positions = tensor(layout.positions, device=self.device)
        residual = self.wte(tensor(ids, device=self.device)) + self.wpe(positions)
        if self.training and self.config.embd_pdrop > 0.0:
            residual = ops.dropout(residual, self.config.embd_pdrop)
        branch: Tensor | None = None
        for block in self.h:
            if states is not None:
                states.append(residual if branch is None else residual + branch)
            branch, residual = block(branch, residual, layout, cache, weights)
        return add_and_normalise(self.ln_f, branch, residual)[0]

    def _check_positions(self, positions: np.ndarray) -> None:
        context = self.config.n_positions
        if outside(positions, context):
            raise ValueError(
                f"positions must lie between 0 and {context - 1}, got up to {int(positions.max())}: "
                f"the sequence is longer than n_positions, the model's context of {context} tokens; "
                "cut it to that length"
            )


class GPT2LMHeadModel(GPT2PretrainedModel, CausalLanguageModel):
    """GPT-2 with its language-modelling head, which is the token embedding when tied.

    Args: as `GPT2Model`.
    """

    embedding_name = "wte.weight"

    def __init__(self, config: GPT2Config, dtype: str = "float32", device: str | None = None) -> None:
        super().__init__(config)
        self.transformer = GPT2Model(config, dtype, device)
        self.add_head(config.n_embd, self.transformer.wte.weight)
