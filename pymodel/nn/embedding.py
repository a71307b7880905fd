"""A trained vector for every index."""

from __future__ import annotations

from pymodel import ops
from pymodel.nn import init
from pymodel.nn.module import Module
from pymodel.nn.parameter import Parameter
from pymodel.tensor import Tensor, empty


class Embedding(Module):
    """A table of vectors picked by index: y[...] = weight[indices[...]].

    Args:
        num_embeddings: number of vectors.
        embedding_dim: their length.
        padding_idx: an index whose vector is zero at first and gets no gradient; negative ones count
            from the end.
        dtype: of the table: float32, float16 or bfloat16.
        device: where it lives.

    Attributes:
        weight: (num_embeddings, embedding_dim), standard normal at first.

    Raises: ValueError for a padding_idx out of range.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"Embedding: padding_idx must be an index of the {num_embeddings} vectors, got {padding_idx}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(empty((num_embeddings, embedding_dim), dtype, device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(Tensor(self.weight._array.select(0, self.padding_idx)))

    def forward(self, indices: Tensor) -> Tensor:
        """Takes indices (...), int64 or int32; returns (..., embedding_dim)."""
        return ops.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
