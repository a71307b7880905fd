"""Where an encoder's tokens lie: padded as they came, or packed without their padding."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pymodel import ops
from pymodel.models.attention import attend
from pymodel.models.inputs import checked_mask
from pymodel.tensor import Tensor, tensor, zeros


@dataclasses.dataclass
class EncoderLayout:
    """The tokens of one batch, and which of them see each other.

    Layers take states of (batch, sequence, width), or when packed of (tokens, width), and need not
    know which: everything but attention treats tokens one by one.

    batch, sequence: extents of the batch as it came.
    device: of the model.
    kept: (tokens,) int64, places of the packed tokens among batch * sequence; None when not packed.
    cu_seqlens, longest: where each packed text begins, and the length of the longest.
    key_lengths: (batch,) int64, keys from there on are padding, or None.
    bias: (batch, 1, 1, sequence) float32, 0 or -inf, for padding that is not at the end, or None.
    """

    batch: int
    sequence: int
    device: str
    kept: np.ndarray | None = None
    cu_seqlens: Tensor | None = None
    longest: int = 0
    key_lengths: Tensor | None = None
    bias: Tensor | None = None

    @property
    def packed(self) -> bool:
        """Whether padding was left out."""
        return self.kept is not None

    def place(self, values: np.ndarray) -> Tensor:
        """Puts integers of (batch, sequence) or (1, sequence) where the tokens are, as a tensor."""
        return tensor(np.ascontiguousarray(self.arranged(values)), device=self.device)

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """`place`, on the host."""
        if self.kept is None:
            return values
        kept: np.ndarray = np.broadcast_to(values, (self.batch, self.sequence)).reshape(-1)[self.kept]
        return kept

    def padded(self, states: Tensor) -> Tensor:
        """States as (batch, sequence, width), with zeros where padding was left out."""
        if self.kept is None:
            return states
        tokens, width = states.shape
        rows = np.full(self.batch * self.sequence, tokens, dtype=np.int64)
        rows[self.kept] = np.arange(tokens)
        blank = zeros((1, width), dtype=states.dtype, device=self.device)
        spread = ops.embedding(tensor(rows, device=self.device), ops.cat([states, blank], 0))
        return spread.view(self.batch, self.sequence, width)

    def first_tokens(self, states: Tensor) -> Tensor:
        """The states of every text's first token, (batch, width).

        Raises: ValueError for texts of no tokens.
        """
        if self.sequence == 0 and self.batch:
            raise ValueError(f"input_ids: a text needs at least one token, got shape ({self.batch}, 0)")
        if self.cu_seqlens is None:
            return states[:, 0]
        return ops.embedding(self.cu_seqlens[:-1], states)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        """Attention of every text's tokens to each other.

        Args:
            q, k, v: (batch, sequence, heads, head_dim), or packed (tokens, heads, head_dim).
            options: scale, dropout_p, weights as in `attention.attend`, and bias, which is added to the
                layout's own: (batch or 1, heads, sequence, sequence).
        """
        if self.cu_seqlens is not None:
            options.pop("weights", None)
            longest = self.longest
            bias = options.pop("bias", None)
            if bias is not None:
                options["bias"] = bias[..., :longest, :longest]
            bounds = (self.cu_seqlens, self.cu_seqlens, longest, longest)
            return ops.attention_varlen(q, k, v, *bounds, **options)
        own, added = self.bias, options.pop("bias", None)
        bias = added if own is None else own if added is None else added + own
        return attend(q, k, v, key_lengths=self.key_lengths, bias=bias, **options)

    def attend_from_first(self, q: Tensor, k: Tensor, v: Tensor, *, dropout_p: float = 0.0) -> Tensor:
        """Attention of every text's first token to all tokens of the text.

        Args:
            q: (batch, heads, head_dim).
            k, v, dropout_p: as in `attend`.

        Returns: (batch, heads, head_dim).
        """
        if self.cu_seqlens is not None:
            one_each = tensor(np.arange(self.batch + 1), device=self.device)
            bounds = (one_each, self.cu_seqlens, 1, self.longest)
            return ops.attention_varlen(q, k, v, *bounds, dropout_p=dropout_p)
        batch, heads, width = q.shape
        options: dict[str, Any] = {"key_lengths": self.key_lengths, "bias": self.bias, "dropout_p": dropout_p}
        return attend(q.view(batch, 1, heads, width), k, v, **options).view(batch, heads, width)


def encoder_layout(
    batch: int,
    sequence: int,
    attention_mask: Any,
    device: str,
    *,
    padding_is_read: bool = True,
    by_distance: bool = False,
) -> EncoderLayout:
    """Turns Hugging Face's mask into a layout.

    Args:
        attention_mask: (batch, sequence), 1 for tokens and 0 for padding, or None.
        padding_is_read: whether anybody looks at the states of padding. If not, it is left out
            altogether and costs nothing; it must then not come before a text.
        by_distance: whether attention has a bias by distance: then it must not stand in a text either.

    Raises: ValueError for a mask of another shape or other values.
    """
    layout = EncoderLayout(batch, sequence, device)
    mask = None if attention_mask is None else checked_mask(attention_mask, batch, sequence)
    if mask is None or mask.all():
        return layout
    lengths = mask.sum(axis=1)
    at_end = (mask == (np.arange(sequence) < lengths[:, None])).all()
    if not padding_is_read and mask[:, 0].all() and (at_end or not by_distance):
        layout.kept = np.flatnonzero(mask)
        layout.cu_seqlens = tensor(np.concatenate([[0], np.cumsum(lengths)]), device=device)
        layout.longest = int(lengths.max())
    elif at_end:
        layout.key_lengths = tensor(lengths, device=device)
    else:
        bias = np.where(mask, 0.0, -np.inf).astype(np.float32)
        layout.bias = tensor(bias[:, None, None, :], device=device)
    return layout
