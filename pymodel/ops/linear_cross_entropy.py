"""Cross-entropy of the logits of a linear map, which are never held all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.device import CPU
from pymodel.ops.arrays import converted, flat, rows
from pymodel.ops.cross_entropy import check_options, invalid_target
from pymodel.ops.linear import _check as check_affine
from pymodel.tensor import Tensor

OP = "linear_cross_entropy"

# Logits of one chunk, at most. Each chunk reads the weight twice and adds to its gradient once: with few
# rows that costs more than it saves.
CHUNK_LOGITS = 1 << 26


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    transposed: bool = False,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    chunk: int | None = None,
) -> Tensor:
    """The cross-entropy of the logits x weight^T + bias, in memory that does not grow with their number.

    loss = cross_entropy(linear(x, weight, bias), targets)

    Rows are taken in chunks: the logits of a chunk give its losses, are overwritten by their gradient and
    give its share of the gradients of x, weight and bias, all while forward runs; backward only scales
    these by the gradient of the loss. Sums over the chunks are float32 and run in their order. Without
    reduction, where each loss has a gradient of its own, backward computes the chunks' logits again.

    Args:
        x: (..., in), float32, float16 or bfloat16; weight and bias have its dtype.
        weight: (classes, in); with `transposed` (in, classes).
        targets: (...), int64, int32 or uint8, each a class or `ignore_index`.
        bias: (classes,) or None.
        ignore_index, label_smoothing, reduction: as in `cross_entropy`.
        chunk: rows of x at a time; None takes as many as have 2^26 logits.

    Returns: a float32 scalar, or (...) float32 for "none".

    Raises: as `cross_entropy` and `linear`; ValueError for a chunk below 1.

    Source: Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", arXiv:2410.10989,
    section 3.2.
    """
    _check(x, weight, targets, bias, transposed, chunk)
    check_options(OP, label_smoothing, reduction)
    x_rows = rows(x._array)
    count, classes = x_rows.shape[0], weight.shape[1 if transposed else 0]
    head = _Head(
        x_rows,
        weight._array,
        None if bias is None else bias._array,
        flat(targets._array),
        transposed,
        ignore_index,
        label_smoothing,
        chunk or _default_chunk(count, classes),
        reduction == "mean",
    )
    inputs = (x, weight, bias)
    recorded = wants_grad(*inputs)
    wanted = [recorded and t is not None and t.requires_grad for t in inputs]
    losses = _core.empty([count], "float32", x.device)
    gradients = None
    if recorded and reduction != "none":
        gradients = _Gradients(head, wanted)
        one = _core.empty([], "float32", x.device)
        _core.fill(one, 1.0)
        invalid, totals = head.run(losses, one.expand([count]), gradients)
    else:
        invalid, totals = head.run(losses)
    if invalid >= 0:
        raise invalid_target(OP, targets, invalid, classes, ignore_index)
    divisor = head.counted() if reduction == "mean" and not head.averages else None
    reduced = losses.reshape(targets.shape) if reduction == "none" else _core.reduce("sum", totals)
    result = Tensor(reduced if divisor is None else _core.binary("div", reduced, divisor))
    if recorded:
        dtype, x_shape = x.dtype, x.shape

        def backward(dloss: _core.Array) -> tuple[Any, ...]:
            if gradients is None:
                sums = _Gradients(head, wanted)
                head.run(_core.empty([count], "float32", losses.device), flat(dloss), sums)
            else:
                sums = gradients
                sums.scale(dloss if divisor is None else _core.binary("div", dloss, divisor))
            dx, dweight, dbias = (None if g is None else converted(g, dtype) for g in sums.arrays)
            return None if dx is None else dx.reshape(x_shape), dweight, dbias

        record(OP, result, inputs, backward)
    return result


@dataclass(frozen=True)
class _Head:
    """What the logits and losses are computed from, and how."""

    x: _core.Array  # (rows, in)
    weight: _core.Array  # (classes, in), or (in, classes) if `transposed`
    bias: _core.Array | None  # (classes,)
    targets: _core.Array  # (rows,)
    transposed: bool
    ignore_index: int
    label_smoothing: float
    chunk: int
    mean: bool

    @property
    def averages(self) -> bool:
        """Whether the kernel takes the mean itself, which rounds once: it can where one chunk is all."""
        return self.mean and self.x.shape[0] <= self.chunk

    def run(
        self,
        losses: _core.Array,
        dlosses: _core.Array | None = None,
        gradients: _Gradients | None = None,
    ) -> tuple[int, _core.Array]:
        """Writes losses (rows,), chunk by chunk; adds the gradients, given those of the losses (rows,).

        Returns: the first row whose target is no class, or -1; and (chunks,) the sums of their losses, or
        their mean if it `averages`, which the kernel adds up in float64.
        """
        count = self.x.shape[0]
        w = self.weight if self.transposed else self.weight.permute([1, 0])
        most = min(self.chunk, count)
        buffer = _core.empty([most, w.shape[1]], self.x.dtype, self.x.device)
        statistics = _core.empty([most, 2], "float32", self.x.device)
        scale = _core.empty([], "float32", self.x.device)
        totals = _core.empty([(count + self.chunk - 1) // self.chunk], "float32", self.x.device)
        options = (self.ignore_index, self.label_smoothing)
        for number, begin in enumerate(range(0, count, self.chunk)):
            end = min(begin + self.chunk, count)
            total = totals.select(0, number)
            x, targets, loss = (a.slice(0, begin, end, 1) for a in (self.x, self.targets, losses))
            logits, kept = (a.slice(0, 0, end - begin, 1) for a in (buffer, statistics))
            _core.gemm(x, w, logits, self.bias)
            incoming = None if dlosses is None else dlosses.slice(0, begin, end, 1)
            dlogits = None if gradients is None else logits  # over the logits, row by row
            invalid = _core.cross_entropy_forward(
                logits, targets, loss, kept, scale, total, *options, self.averages, incoming, dlogits
            )
            if invalid >= 0:
                return begin + invalid, totals
            if gradients is not None:
                gradients.add(x, w, logits, begin)
        return -1, totals

    def counted(self) -> _core.Array:
        """() float32: the targets that count, or 1 where none does."""
        counts = _core.binary("ne", self.targets, self.ignore_index)
        return _core.binary("maximum", converted(_core.reduce("sum", counts), "float32"), 1.0)


class _Gradients:
    """The gradients of x, weight and bias, those that are wanted, summed in float32 over the chunks."""

    def __init__(self, head: _Head, wanted: list[bool]) -> None:
        sources = (head.x, head.weight, head.bias)
        self.arrays = [
            _core.empty(a.shape, "float32", a.device) if want and a is not None else None
            for a, want in zip(sources, wanted, strict=True)
        ]
        self._transposed = head.transposed
        if head.x.shape[0] == 0:  # no chunk will write them
            for array in self.arrays:
                if array is not None:
                    _core.fill(array, 0.0)

    def add(self, x: _core.Array, w: _core.Array, dlogits: _core.Array, begin: int) -> None:
        """Takes in the chunk that starts at row `begin`.

        Args: x (chunk, in), w (in, classes), dlogits (chunk, classes).
        """
        dx, dweight, dbias = self.arrays
        if dx is not None:
            _core.gemm(dlogits, w.permute([1, 0]), dx.slice(0, begin, begin + x.shape[0], 1))
        if dweight is not None:
            left, right = (x, dlogits) if self._transposed else (dlogits, x)
            _core.gemm(left.permute([1, 0]), right, dweight, beta=1.0 if begin else 0.0)
        if dbias is not None and begin == 0:
            _core.reduce("sum", dlogits, dbias, [0])
        elif dbias is not None:
            part = _core.reduce("sum", dlogits, dbias.empty_like(), [0])
            _core.binary("add", dbias, part, dbias)

    def scale(self, factor: _core.Array) -> None:
        """Multiplies all of them by () float32."""
        if factor.device == CPU and factor.numpy().item() == 1.0:
            return  # mostly backward starts at the loss; only a device would have to be waited for
        for array in self.arrays:
            if array is not None:
                _core.binary("mul", array, factor, array)


def _default_chunk(count: int, classes: int) -> int:
    """Chunks of nearly equal length, whole vectors of rows, of at most about CHUNK_LOGITS logits."""
    most = max(CHUNK_LOGITS // max(classes, 1), 16)
    chunks = max((count + most - 1) // most, 1)
    return max((count + 16 * chunks - 1) // (16 * chunks) * 16, 1)


def _check(
    x: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, transposed: bool, chunk: int | None
) -> None:
    """What the bindings, which see rows of a chunk, cannot say in the caller's words."""
    check_affine(OP, x, weight, bias, transposed)
    if targets.shape != x.shape[:-1]:
        raise ValueError(
            f"{OP}: targets must have shape {x.shape[:-1]} to fit x of shape {x.shape}, got {targets.shape}"
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"{OP}: chunk must be at least 1 row, got {chunk}")
