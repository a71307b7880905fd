"""attention forward, backward and in decoding, against torch's scaled_dot_product_attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import pymodel as pm
from benchmarks import harness, reference
from benchmarks.harness import OURS, Case, Contender, Contest, forward_backward, gate
from benchmarks.ops.op_case import BYTES, normal, op_contest, sample, stored
from benchmarks.settings import TOLERANCE, Settings
from pymodel import ops

TOKENS = 2048  # of a batch, however long its sequences are
LENGTHS = (128, 512, 2048)
HEADS = ((12, 64), (6, 128))  # number and width
DECODING = ((1, 1024), (8, 512))  # sequences and the keys of each
SAMPLE = 3  # sequences, and heads of each, that are held against float64


def cases(settings: Settings) -> Iterator[Case]:
    """Causal, as GPT-2 trains, padded, as BERT does, whose sequences fill half to all of a row; decoding."""
    for dtype in settings.chosen("float32", "bfloat16"):
        for heads, width in HEADS[:1] if settings.quick else HEADS:
            for length in LENGTHS[1:2] if settings.quick else LENGTHS:
                for causal in (True, False):
                    for backward in (False, True):
                        yield attention(settings, length, heads, width, dtype, causal, backward)
        for batch, keys in DECODING[:1] if settings.quick else DECODING:
            yield decoding(settings, batch, keys, dtype)


def decoding(settings: Settings, batch: int, keys: int, dtype: str) -> Case:
    """One new token of each sequence against the keys so far, which come from memory."""
    heads, width = HEADS[0]
    size = float(BYTES[dtype]) * batch * heads * width
    read, written = (2 * keys + 1) * size, size
    title = f"attention decoding {dtype} {batch} x 1 against {keys}, {heads} heads of {width}"
    shapes = [(batch, rows, heads, width) for rows in (1, keys, keys)]
    return Case(
        title,
        lambda: op_contest(
            settings, title, dtype, [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)],
            ops.attention, lambda torch: torch.attention(False, None),
            lambda q, k, v: [reference.attention(q, k, v, False, np.full(batch, keys))[0]],
            touched=read + written,
        ),
        read + written, "B", group=f"attention decoding {dtype}", dtype=dtype,
        flop=4.0 * batch * heads * width * keys, read=read, written=written,
    )  # fmt: skip


def attention(
    settings: Settings, length: int, heads: int, width: int, dtype: str, causal: bool, backward: bool
) -> Case:
    """Self-attention of as many sequences as make up the tokens; only real tokens count as work."""
    batch = max(TOKENS // length, 1)
    lengths = np.full(batch, length)
    if not causal:
        lengths = np.random.default_rng(1).integers(length // 2, length + 1, batch)
    # Two products forward, five backward; a causal mask leaves half of each.
    pairs = float((lengths.astype(float) ** 2).sum()) / (2 if causal else 1)
    flop = (7 if backward else 2) * 2.0 * heads * width * pairs
    size = float(BYTES[dtype]) * int(lengths.sum()) * heads * width
    passes = "forward+backward" if backward else "forward"
    kind = "causal" if causal else "padded"
    title = f"attention {passes} {dtype} {batch} x {length}, {heads} heads of {width}, {kind}"
    return Case(
        title, lambda: contest(settings, title, lengths, length, heads, width, dtype, causal, backward),
        flop, "FLOP", bar=2.0 if backward else 1.0, group=f"attention {passes} {dtype}", dtype=dtype,
        flop=flop, read=size * (8 if backward else 3), written=size * (4 if backward else 1),
    )  # fmt: skip


def contest(
    settings: Settings,
    title: str,
    lengths: np.ndarray,
    length: int,
    heads: int,
    width: int,
    dtype: str,
    causal: bool,
    backward: bool,
) -> Contest:
    """Everyone gets the same projections. What lies in the padding counts for nobody."""
    real = np.arange(length) < lengths[:, None]  # (batch, length)
    shape = (len(lengths), length, heads, width)
    q, k, v = (stored(normal(*shape, seed=seed), dtype) for seed in range(3))
    gradient = stored(normal(*shape, seed=3) * real[:, :, None, None], dtype)
    padding = None if causal else pm.from_numpy(lengths.astype(np.int32))

    def side(tensor: Callable[[np.ndarray], object], op: Callable[..., object]) -> Contender:
        inputs = [tensor(x) for x in (q, k, v)]
        return forward_backward(op, inputs, tensor(gradient)) if backward else lambda: [op(*inputs)]

    contenders = {
        OURS: side(
            lambda x: pm.from_numpy(x).requires_grad_(backward),
            lambda q, k, v: ops.attention(q, k, v, causal=causal, query_lengths=padding, key_lengths=padding),
        )
    }
    if "torch" in settings.peers:
        from benchmarks.peers import torch_ops

        mask = None if causal else real[:, None, None, :]
        contenders["torch"] = side(lambda x: torch_ops.tensor(x, backward), torch_ops.attention(causal, mask))

    # Sequences and heads are independent: a few of each stand for all in the gate.
    part = np.ix_(sample(len(lengths), SAMPLE), np.arange(length), sample(heads, SAMPLE), np.arange(width))

    def truth() -> list[np.ndarray]:
        values = (q[part], k[part], v[part], causal, lengths[part[0].ravel()])
        return reference.attention(*values, gradient[part] if backward else None)

    def sampled(call: Contender) -> Contender:
        def real_parts() -> list[np.ndarray]:
            out, *gradients = (harness.as_array(result) for result in call())
            return [x[part] for x in (out * real[:, :, None, None], *gradients)]

        return real_parts

    samples = {name: sampled(call) for name, call in contenders.items()}
    return Contest(contenders, gate(samples, truth, TOLERANCE[dtype], title).check)
