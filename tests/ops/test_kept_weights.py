"""Weights that stay packed between products: the same bits, in every instruction set's own form."""

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pymodel as pm
from pymodel import _core, nn
from pymodel.autograd import no_grad

pytestmark = pytest.mark.host_only("devices read weights where they lie")
DTYPES = ["float32", "bfloat16", "float16"]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


class Maps(nn.Module):
    """A map stored as (out, in) and one stored as (in, out)."""

    def __init__(self, width: int, hidden: int, dtype: str) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Conv1D(width, hidden)
        self.to(dtype)

    def forward(self, x: pm.Tensor) -> pm.Tensor:
        down: pm.Tensor = self.down(self.up(x))
        return down


def results(maps: Maps, x: np.ndarray, dtype: str) -> Iterator[np.ndarray]:
    """The output and the gradient of the input."""
    leaf = pm.tensor(x, dtype=dtype).requires_grad_()
    out = maps(leaf)
    out.backward(pm.tensor(draw(*out.shape, seed=1), dtype=dtype))
    assert leaf.grad is not None
    yield out.numpy()
    yield leaf.grad.numpy()


def assert_same(kept: Iterator[np.ndarray], plain: Iterator[np.ndarray]) -> None:
    for one, other in zip(kept, plain, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
# whole panels; ragged ones; two ranges of k for every dtype and form, and over one block of columns;
# ranges that let packed columns fit into a cache
@pytest.mark.parametrize(
    ("rows", "width", "hidden"), [(512, 192, 320), (333, 197, 301), (140, 70, 4500), (300, 600, 350)]
)
def test_kept_weights_give_the_same_bits(rows: int, width: int, hidden: int, dtype: str) -> None:
    maps, x = Maps(width, hidden, dtype), draw(rows, width)
    plain = list(results(maps, x, dtype))
    with nn.packed_weights(maps) as kept:
        for _ in range(2):  # the first products pack, the second ones read
            assert_same(results(maps, x, dtype), iter(plain))
        forms = kept.nbytes
        assert forms >= 4 * width * hidden * (4 if dtype == "float32" else 2)
        assert_same(results(maps, draw(rows, width), dtype), iter(plain))  # other rows, the same forms
        assert kept.nbytes == forms


@pytest.mark.parametrize("dtype", DTYPES)
def test_kept_weights_serve_any_number_of_rows(dtype: str) -> None:
    maps = Maps(200, 700, dtype)
    with no_grad(), nn.packed_weights(maps):
        kept = {
            rows: maps(pm.tensor(draw(rows, 200), dtype=dtype)).numpy() for rows in (1, 9, 40, 70, 150, 700)
        }
    with no_grad():
        for rows, out in kept.items():
            np.testing.assert_array_equal(out, maps(pm.tensor(draw(rows, 200), dtype=dtype)).numpy())


def test_few_rows_keep_nothing() -> None:
    maps = Maps(200, 700, "float32")
    with no_grad(), nn.packed_weights(maps) as kept:
        maps(pm.tensor(draw(1, 200), dtype="float32"))
        assert kept.nbytes == 0


class Shrinking(pm.optim.Optimizer):
    """An optimizer that is not ours."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.5})

    def _update(self, updates: list[Any], scale: Any) -> None:
        for update in updates:
            update.parameter.numpy()[:] *= 0.5


def through_numpy(weight: pm.Tensor) -> None:
    weight.numpy()[:] = 1.0
    nn.weights_changed()


def one_row(weight: pm.Tensor) -> None:
    weight[3] = 7.0


CHANGES: list[Callable[[pm.Tensor], object]] = [
    through_numpy,
    one_row,
    lambda weight: weight.copy_(pm.tensor(draw(*weight.shape, seed=5), dtype=weight.dtype)),
    lambda weight: weight.fill_(0.5),
    lambda weight: weight.mul_(3.0),
    lambda weight: weight[:4].zero_(),
    nn.init.normal_,
    nn.init.ones_,
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_changed_weights_are_packed_anew(dtype: str) -> None:
    maps, x = Maps(128, 512, dtype), draw(300, 128)
    with nn.packed_weights(maps):

        def check() -> None:
            kept = list(results(maps, x, dtype))
            done = threading.Thread(target=lambda: plain.extend(results(maps, x, dtype)))
            plain: list[np.ndarray] = []  # of another thread, which this block does not concern
            done.start()
            done.join()
            assert_same(iter(kept), iter(plain))
            seen.append(kept[0])

        seen: list[np.ndarray] = []
        check()
        pm.optim.AdamW(maps.parameters(), lr=0.1).step()
        check()
        pm.optim.SGD(maps.parameters(), lr=1.0).step()
        check()
        Shrinking(maps.parameters()).step()
        check()
        maps.load_state_dict({name: 2 * draw(*value.shape) for name, value in maps.state_dict().items()})
        check()
        for change in CHANGES:
            with no_grad():
                change(maps.up.weight)
            check()
    for before, after in itertools.pairwise(seen):
        assert not np.array_equal(before, after)


def test_only_the_weights_of_the_module_are_kept() -> None:
    maps, other = Maps(128, 512, "float32"), Maps(128, 512, "float32")
    with no_grad(), nn.packed_weights(maps) as kept:
        other(pm.tensor(draw(300, 128), dtype="float32"))
        assert kept.nbytes == 0
        maps.up(pm.tensor(draw(300, 128), dtype="float32"))
        forms = kept.nbytes
        with nn.packed_weights(maps) as inner:  # the outer block's copy serves
            maps.up(pm.tensor(draw(300, 128), dtype="float32"))
            assert (kept.nbytes, inner.nbytes) == (forms, 0)


def test_parts_of_a_weight_have_forms_of_their_own() -> None:
    maps, x = Maps(128, 512, "float32"), pm.tensor(draw(300, 128), dtype="float32")
    weight = maps.up.weight
    with no_grad():
        plain = [pm.ops.linear(x, w).numpy() for w in (weight, weight[:300], weight[:400])]
        with nn.packed_weights(maps):
            for _ in range(2):
                for expected, w in zip(plain, (weight, weight[:300], weight[:400]), strict=True):
                    np.testing.assert_array_equal(pm.ops.linear(x, w).numpy(), expected)


def test_a_block_ends_when_an_exception_leaves_it() -> None:
    maps = Maps(128, 512, "float32")
    with pytest.raises(ZeroDivisionError), nn.packed_weights(maps) as kept:
        raise ZeroDivisionError
    with no_grad():
        maps(pm.tensor(draw(300, 128), dtype="float32"))
    assert kept.nbytes == 0


def test_a_block_may_end_in_another_thread() -> None:
    maps, x = Maps(128, 512, "float32"), pm.tensor(draw(300, 128), dtype="float32")
    block = nn.packed_weights(maps)
    block.__enter__()
    with no_grad():
        plain = maps(x).numpy()
        ending = threading.Thread(target=block.__exit__, args=(None, None, None))
        ending.start()
        ending.join()
        maps.up.weight.numpy()[:] = 0.0  # nothing keeps it any more
        assert not np.array_equal(maps(x).numpy(), plain)


def test_an_operand_is_not_taken_for_a_weight() -> None:
    # the same memory as the factor of a plain product, which may be changed between two calls
    maps, x = Maps(128, 512, "float32"), pm.tensor(draw(300, 512), dtype="float32")
    out = pm.empty((300, 128))
    with nn.packed_weights(maps) as kept:
        _core.gemm(x._array, maps.up.weight._array, out._array)
        assert kept.nbytes == 0
