"""What a decoder's tokens see: those before them, and the source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pymodel.models.attention import attend
from pymodel.models.cache import KeyValueCache
from pymodel.models.encoder_layout import EncoderLayout
from pymodel.models.inputs import SequenceLayout
from pymodel.tensor import Tensor

KeysAndValues = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclasses.dataclass
class Shown:
    """What a call shows beside its result: lists that blocks append to, None where it is not wanted.

    states: the embeddings and the output of all blocks but the last, (batch, sequence, width).
    weights: attention weights of every block, (batch, heads, queries, keys).
    cross_weights: the same of the decoder's attention to the source.
    """

    states: list[Tensor] | None = None
    weights: list[Tensor] | None = None
    cross_weights: list[Tensor] | None = None


@dataclasses.dataclass
class Target:
    """The tokens of a decoder's call: where they stand, and the cache with those before them, if any."""

    layout: SequenceLayout
    cache: KeyValueCache | None = None

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Attention of the tokens to themselves and to those before them.

        Args:
            layer: number of the block.
            q, k, v: (batch, sequence, heads, head_dim), of the tokens of this call.
            bias: added to that of the layout; (batch or 1, heads, sequence, keys) float32.
            options: scale, dropout_p and weights as in `attention.attend`.
        """
        if self.cache is not None:
            k, v = self.cache.append(layer, k, v)
        own = self.layout.bias
        return attend(
            q,
            k,
            v,
            causal=True,
            query_lengths=self.layout.query_lengths,
            key_lengths=self.layout.key_lengths,
            bias=bias if own is None else own if bias is None else bias + own,
            **options,
        )


@dataclasses.dataclass
class Source:
    """The encoder's states, (batch, source, width), as the decoder sees them; the layout says which of them
    are padding. With a cache, each block projects them once and finds them there from then on."""

    states: Tensor
    layout: EncoderLayout
    cache: KeyValueCache | None = None

    def attend(self, layer: int, q: Tensor, project: KeysAndValues, **options: Any) -> Tensor:
        """Attention of the decoder's tokens to the source.

        Args:
            layer: number of the block.
            q: (batch, sequence, heads, head_dim).
            project: makes keys and values, (batch, source, heads, head_dim) each, of the states.
            options: as in `Target.attend`.
        """
        pair = None if self.cache is None else self.cache.cross(layer)
        if pair is None:
            pair = project(self.states)
            if self.cache is not None:
                self.cache.set_cross(layer, *pair)
        return self.layout.attend(q, *pair, **options)
