"""Losses as modules."""

from __future__ import annotations

from pymodel import ops
from pymodel.nn.module import Module
from pymodel.tensor import Tensor


class CrossEntropyLoss(Module):
    """The negative log-likelihood of integer targets under the softmax of the logits.

    Args:
        ignore_index: a target that counts neither in the loss nor in the mean.
        label_smoothing: share of probability spread evenly over all classes, in [0, 1].
        reduction: "mean" over the targets that count, "sum" or "none".
    """

    def __init__(
        self, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> None:
        self.ignore_index, self.label_smoothing, self.reduction = ignore_index, label_smoothing, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Takes logits (..., classes) and targets (...); returns a scalar, or (...) without reduction."""
        return ops.cross_entropy(logits, targets, self.ignore_index, self.label_smoothing, self.reduction)

    def extra_repr(self) -> str:
        return (
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}, "
            f"reduction={self.reduction!r}"
        )


class LinearCrossEntropyLoss(Module):
    """`CrossEntropyLoss` of the logits of a linear head, which are never held all at once.

    Args:
        ignore_index, label_smoothing, reduction: as in `CrossEntropyLoss`.
        transposed: whether weights come as (in, classes) instead of (classes, in).
        chunk: rows of logits at a time; see `ops.linear_cross_entropy`.
    """

    def __init__(
        self,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        transposed: bool = False,
        chunk: int | None = None,
    ) -> None:
        self.ignore_index, self.label_smoothing, self.reduction = ignore_index, label_smoothing, reduction
        self.transposed, self.chunk = transposed, chunk

    def forward(self, x: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
        """Takes x (..., in), the head's weight and bias, and targets (...); returns as `CrossEntropyLoss`."""
        return ops.linear_cross_entropy(
            x,
            weight,
            targets,
            bias=bias,
            transposed=self.transposed,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            chunk=self.chunk,
        )

    def extra_repr(self) -> str:
        return (
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}, "
            f"reduction={self.reduction!r}, transposed={self.transposed}, chunk={self.chunk}"
        )
