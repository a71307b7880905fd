"""Every kernel beside torch's, on tensors that both see through DLPack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

import pymodel as pm
from benchmarks.harness import Case, Contest
from benchmarks.peers import torch_ops
from pymodel import ops

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}  # of the norm of the difference
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass
class Place:
    """Where the cases run, and how large they are: `shrink` divides the extents of a rehearsal."""

    torch_device: str
    our_device: str
    shrink: int = 1

    def size(self, extent: int) -> int:
        """An extent, made small for a rehearsal."""
        return max(extent // self.shrink, 16)

    def share(self, tensor: torch.Tensor) -> pm.Tensor:
        """The tensor as ours: the same memory on a GPU, a copy on the emulator."""
        ours = pm.from_dlpack(tensor.detach())
        return ours if self.our_device.startswith("cuda") else ours.to(self.our_device)


def cases(place: Place) -> Iterator[Case]:
    """The kernels in the shapes of GPT-2 and Llama-class training."""
    for m, n, k in ((4096, 4096, 4096), (8192, 3072, 768), (8192, 768, 3072), (8192, 50257, 768)):
        yield gemm(place, m, n, k, torch.bfloat16)
    yield gemm(place, 2048, 2048, 2048, torch.float32)
    for length, width, causal in ((1024, 64, True), (4096, 64, True), (4096, 128, True), (4096, 128, False)):
        for backward in (False, True):
            yield attention(place, 16384 // length, length, 16, width, causal, backward)
    for columns in (768, 4096):
        for backward in (False, True):
            yield layer_norm(place, 16384, columns, backward)
            yield rms_norm(place, 16384, columns, backward)
    yield rotary(place, 16, 1024, 16, 64)
    yield cross_entropy(place, 8192, 50257)
    yield from elementwise(place)
    yield embedding(place, 16384, 50257, 768)
    yield adamw(place)


def op_case(
    place: Place,
    title: str,
    ours: Callable[..., pm.Tensor],
    theirs: Callable[..., torch.Tensor],
    inputs: Sequence[torch.Tensor],
    work: float,
    unit: str,
    *,
    backward: bool = False,
) -> Case:
    """A case of one op; with `backward` the gradients of all floating inputs are part of the work."""
    tolerance = max(TOLERANCE.get(x.dtype, 0.0) for x in inputs)
    theirs_in = [x.requires_grad_(backward) if x.is_floating_point() else x for x in inputs]
    ours_in = [place.share(x) for x in inputs]
    for x, y in zip(theirs_in, ours_in, strict=True):
        y.requires_grad_(x.requires_grad)
    gradient = torch.randn_like(theirs(*theirs_in)) if backward else None
    # A loss is float32 with us, whatever the logits are.
    our_gradient = None if gradient is None else place.share(gradient).to(ours(*ours_in).dtype)

    def run(op: Callable[..., Any], arguments: Sequence[Any], dy: Any) -> Any:
        for x in arguments:
            x.grad = None
        out = op(*arguments)
        if backward:
            out.backward(dy)
        return out

    def check() -> None:
        # torch in float32 is the truth: its own bfloat16 sums may be further off than ours.
        exact_in = [widened(x).requires_grad_(x.requires_grad) for x in theirs_in]
        a = run(ours, ours_in, our_gradient)
        b = run(theirs, exact_in, None if gradient is None else widened(gradient))
        pairs = [("output", a, b)]
        if backward:
            pairs += [("gradient", x.grad, y.grad) for x, y in zip(ours_in, exact_in, strict=True)]
        for what, x, y in pairs:
            if y is not None:
                close(f"{title}: {what}", x, y, tolerance)

    contenders = {
        "pymodel": lambda: run(ours, ours_in, our_gradient),
        "torch": lambda: run(theirs, theirs_in, gradient),
    }
    return Case(title, lambda: Contest(contenders, check), work, unit)


def widened(x: torch.Tensor) -> torch.Tensor:
    """A copy in float32; integers as they are."""
    return x.detach().float() if x.is_floating_point() else x


def close(what: str, ours: pm.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    """The correctness gate: norm of the difference relative to the norm."""
    a = torch.from_numpy(ours.detach().to("float32").numpy()).double()
    b = theirs.detach().double().cpu()
    error = float((a - b).norm() / b.norm().clamp_min(1e-30))
    if not error <= tolerance:
        raise AssertionError(f"{what} differs from torch by {error:.2e}")


def draw(place: Place, *shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Normal random numbers."""
    return torch.randn(*shape, device=place.torch_device).to(dtype)


def gemm(place: Place, m: int, n: int, k: int, dtype: torch.dtype) -> Case:
    """y = x w^T with w (out, in), as a linear layer has it."""
    m, n, k = (place.size(extent) for extent in (m, n, k))
    x, w = draw(place, m, k, dtype=dtype), draw(place, n, k, dtype=dtype)
    title = f"gemm {m} x {n} x {k}, {NAMES[dtype]}"
    return op_case(place, title, ops.linear, F.linear, [x, w], 2.0 * m * n * k, "FLOP")


def attention(
    place: Place, batch: int, length: int, heads: int, width: int, causal: bool, backward: bool
) -> Case:
    """Self-attention of (batch, length, heads, width)."""
    length, heads = place.size(length), max(heads // place.shrink, 1)
    qkv = [draw(place, batch, length, heads, width) for _ in range(3)]

    def theirs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]
        out = F.scaled_dot_product_attention(heads_first[0], heads_first[1], heads_first[2], is_causal=causal)
        return out.transpose(1, 2)

    products = 7 if backward else 2
    work = products * 2.0 * batch * heads * length * length * width / (2 if causal else 1)
    kind = ("causal" if causal else "full") + (" forward+backward" if backward else " forward")
    title = f"attention {batch} x {length}, {heads} heads of {width}, {kind}"
    return op_case(
        place, title, lambda q, k, v: ops.attention(q, k, v, causal=causal), theirs, qkv, work, "FLOP",
        backward=backward,
    )  # fmt: skip


def _norm_bytes(rows: int, columns: int, backward: bool) -> float:
    """x read and y written; backward reads dy and x and writes dx."""
    return 2.0 * rows * columns * (5 if backward else 2)


def layer_norm(place: Place, rows: int, columns: int, backward: bool) -> Case:
    """Layer normalisation in bfloat16."""
    rows, columns = place.size(rows), place.size(columns)
    inputs = [draw(place, rows, columns), draw(place, columns), draw(place, columns)]
    title = f"layer_norm {rows} x {columns}{', forward+backward' if backward else ''}"
    return op_case(
        place, title, ops.layer_norm, lambda x, w, b: F.layer_norm(x, (columns,), w, b), inputs,
        _norm_bytes(rows, columns, backward), "B", backward=backward,
    )  # fmt: skip


def rms_norm(place: Place, rows: int, columns: int, backward: bool) -> Case:
    """RMS normalisation in bfloat16."""
    rows, columns = place.size(rows), place.size(columns)
    title = f"rms_norm {rows} x {columns}{', forward+backward' if backward else ''}"
    return op_case(
        place, title, ops.rms_norm, lambda x, w: F.rms_norm(x, (columns,), w, 1e-6),
        [draw(place, rows, columns), draw(place, columns)], _norm_bytes(rows, columns, backward), "B",
        backward=backward,
    )  # fmt: skip


def rotary(place: Place, batch: int, length: int, heads: int, width: int) -> Case:
    """Queries turned by their positions, and the gradient, in bfloat16."""
    length = place.size(length)
    angles = torch.rand(length, width // 2, device=place.torch_device)
    cos, sin = angles.cos(), angles.sin()
    tables = place.share(cos), place.share(sin)
    work = 2.0 * 4 * batch * length * heads * width
    title = f"rotary {batch} x {length}, {heads} heads of {width}, forward+backward"
    return op_case(
        place, title, lambda x: ops.rotary(x, *tables), torch_ops.rotary(cos, sin),
        [draw(place, batch, length, heads, width)], work, "B", backward=True,
    )  # fmt: skip


def cross_entropy(place: Place, rows: int, classes: int) -> Case:
    """Loss and the logits' gradient; the floor reads the logits and writes the gradient."""
    rows, classes = place.size(rows), place.size(classes)
    logits = draw(place, rows, classes)
    targets = torch.randint(0, classes, (rows,), device=place.torch_device)
    title = f"cross_entropy {rows} x {classes}, forward+backward"
    return op_case(
        place, title, ops.cross_entropy, F.cross_entropy, [logits, targets], 2.0 * 3 * rows * classes, "B",
        backward=True,
    )  # fmt: skip


def elementwise(place: Place) -> Iterator[Case]:
    """Softmax, activations, dropout, a residual sum and a sum over rows, in bfloat16."""
    rows, columns = place.size(16384), place.size(4096)
    x, y = draw(place, rows, columns), draw(place, rows, columns)
    size = 2.0 * rows * columns
    shape = f"{rows} x {columns}"
    yield op_case(
        place, f"softmax {shape}", lambda a: ops.softmax(a, -1), lambda a: a.softmax(-1), [x], 2 * size, "B"
    )
    yield op_case(
        place, f"gelu {shape}, forward+backward", lambda a: ops.gelu(a, "tanh"),
        lambda a: F.gelu(a, approximate="tanh"), [x], 5 * size, "B", backward=True,
    )  # fmt: skip
    yield op_case(
        place, f"gated_activation {shape}, forward+backward", ops.gated_activation, torch_ops.swiglu, [x, y],
        8 * size, "B", backward=True,
    )  # fmt: skip
    yield op_case(place, f"add {shape}", lambda a, b: a + b, lambda a, b: a + b, [x, y], 3 * size, "B")
    yield op_case(place, f"sum over rows {shape}", lambda a: a.sum(0), lambda a: a.sum(0), [x], size, "B")
    # No two libraries draw the same mask: ours is held against its own mask by the tests.
    a, b = place.share(x), x.detach()
    contenders = {"pymodel": lambda: ops.dropout(a, 0.1), "torch": lambda: F.dropout(b, 0.1)}
    yield Case(f"dropout {shape}", lambda: Contest(contenders, lambda: None), 2 * size, "B")


def embedding(place: Place, tokens: int, entries: int, columns: int) -> Case:
    """Rows picked from a table, and the table's gradient, which is written whole."""
    tokens, entries, columns = (place.size(extent) for extent in (tokens, entries, columns))
    indices = torch.randint(0, entries, (tokens,), device=place.torch_device)
    table = draw(place, entries, columns)
    work = 2.0 * columns * (3 * tokens + entries)
    title = f"embedding {tokens} of {entries} x {columns}, forward+backward"
    return op_case(place, title, ops.embedding, F.embedding, [indices, table], work, "B", backward=True)


def adamw(place: Place) -> Case:
    """One step over parameters of GPT-2 124M's sizes, float32: 28 bytes a parameter."""
    shapes = [(50257, 768), (1024, 768), *[(2304, 768), (768, 768), (3072, 768), (768, 3072)] * 12]
    tensors = [torch.randn(*(place.size(e) for e in shape), device=place.torch_device) for shape in shapes]
    ours = [place.share(t.clone()).requires_grad_() for t in tensors]
    theirs = [t.requires_grad_() for t in tensors]
    for a, b in zip(ours, theirs, strict=True):
        b.grad = torch.randn_like(b)
        a.grad = place.share(b.grad)
    our_optimizer = pm.optim.AdamW(ours, lr=1e-3, weight_decay=0.1)
    their_optimizer = torch.optim.AdamW(theirs, lr=1e-3, weight_decay=0.1, fused=True)

    def check() -> None:
        our_optimizer.step()
        their_optimizer.step()
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            close("adamw", a, b, TOLERANCE[torch.float32])

    count = sum(t.numel() for t in tensors)
    contenders = {"pymodel": our_optimizer.step, "torch": their_optimizer.step}
    return Case(f"adamw, {len(shapes)} tensors", lambda: Contest(contenders, check), 28.0 * count, "B")
