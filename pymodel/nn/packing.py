"""Weights that stay packed from one product to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymodel import _core
from pymodel.nn.module import Module


@contextmanager
def packed_weights(module: Module) -> Iterator[_core.KeptWeights]:
    """Packs each weight of a module once for the CPU's products, instead of anew for each of them.

        with nn.packed_weights(model):
            for batch in batches:
                model(batch)

    A product of more than a few rows reads its weight in panels that suit the processor. The block keeps
    them: for forward passes, for the gradients of their inputs, and for all batches whose gradients add up.
    The fewer rows a batch has, the more of its time that saves. Results are the same bits.

    The copies live until the end of the block. They take once to one and a half times the memory of the
    weights, and as much again where gradients flow through them. Optimizers, `load_state_dict` and changes
    in place make them be packed anew. Who changes a weight within the block by other means, its NumPy view or
    DLPack, calls `nn.weights_changed()`. The block holds for the thread that opened it. Weights on other
    devices are left alone.

    Args:
        module: whose parameters of two dimensions are kept.

    Yields: the copies; their `nbytes` is the memory they take so far.
    """
    kept = _core.KeptWeights([parameter._array for parameter in module.parameters()])
    kept.enter()
    try:
        yield kept
    finally:
        kept.exit()


def weights_changed() -> None:
    """Makes weights that are kept packed, in any thread, be packed anew by the products that come."""
    _core.weights_changed()
