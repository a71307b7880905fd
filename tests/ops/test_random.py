"""Random fills: the generator's published words, distributions, and the same draws everywhere."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from memory import transposed

import pymodel as pm
from pymodel import _core
from pymodel.ops.random import normal_, uniform_

DTYPES = ["float32", "float16", "bfloat16"]

# Counter (4 words), key (2 words), answer (4 words) of philox4x32-10, from the file kat_vectors of Random123,
# the library of the paper's authors.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.fixture(autouse=True)
def _seeded():
    state = pm.get_rng_state()
    pm.manual_seed(99)
    yield
    pm.set_rng_state(state)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_random_philox_gives_the_published_answers(counter, key, answer):
    words, keys = ([int(word, 16) for word in text.split()] for text in (counter, key))
    block = _core.philox(keys[0] | keys[1] << 32, words[0] | words[1] << 32, words[2] | words[3] << 32)
    assert " ".join(f"{word:08x}" for word in block) == answer


# Seeds and offsets that fill both of their 32-bit halves.
@pytest.mark.parametrize(("seed", "offset"), [(0, 0), (2**64 - 1, 3), (0x123456789ABCDEF0, 2**40 + 5)])
def test_random_uniform_is_the_words_of_the_generator(seed, offset):
    out = pm.empty((203,))
    _core.random_uniform(out._array, 0.0, 1.0, seed, offset)
    words = np.array([_core.philox(seed, i, offset) for i in range(51)], np.uint32).reshape(-1)[:203]
    np.testing.assert_array_equal(out.numpy(), (words >> 8).astype(np.float32) * np.float32(2**-24))


def test_random_normal_is_box_and_muller_of_the_words():
    out = pm.empty((4003,))
    _core.random_normal(out._array, 0.0, 1.0, 11, 2)
    words = np.array([_core.philox(11, i, 2) for i in range(1001)], np.uint64).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log((words[:, 0] + 0.5) * 2.0**-32))
    angle = 2 * np.pi * (words[:, 1] >> np.uint64(8)) * 2.0**-24
    exact = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:4003]
    np.testing.assert_allclose(out.numpy(), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_draws_have_their_distribution(dtype):
    count = 300_000
    u, z = (draw((count,), dtype).numpy().astype(np.float64) for draw in (pm.rand, pm.randn))
    # Kolmogorov-Smirnov distances; 1.95 / sqrt(count) is exceeded once in a thousand draws. Rounding to
    # two bytes moves values by up to half a spacing.
    slack = {"float32": 0.0, "float16": 5e-4, "bfloat16": 4e-3}[dtype]
    steps = np.arange(1, count + 1) / count
    normal_cdf = 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in np.sort(z)])
    for cdf in (np.sort(u), normal_cdf):
        assert np.abs(cdf - steps).max() < 1.95 / np.sqrt(count) + slack
    # Neighbours come from one block, and the next but one of a pair: none may be correlated.
    for values in (u - u.mean(), z - z.mean()):
        for lag in (1, 2, 3, 4, 64):
            assert abs(np.mean(values[lag:] * values[:-lag]) / values.var()) < 5 / np.sqrt(count)


def test_random_fills_take_bounds_and_moments():
    x = pm.empty((50_000,))
    assert uniform_(x, -3, 5) is x
    assert -3 <= x.numpy().min() < -2.99
    assert 4.99 < x.numpy().max() <= 5
    assert normal_(x, mean=4.0, std=0.5) is x
    assert abs(x.numpy().mean() - 4) < 0.02
    assert abs(x.numpy().std() - 0.5) < 0.02
    assert (normal_(x, 2.0, 0.0).numpy() == 2).all()
    assert (uniform_(x, 1.0, 1.0).numpy() == 1).all()


@pytest.mark.parametrize("fill", [uniform_, normal_])
def test_random_fills_depend_on_neither_strides_nor_dtype(fill):
    state = pm.get_rng_state()
    wanted = fill(pm.empty((30, 21))).numpy()
    wide = pm.zeros((30, 42))
    for view in (transposed(np.zeros((30, 21), np.float32)), wide[:, ::2]):
        pm.set_rng_state(state)
        fill(view)
        np.testing.assert_array_equal(view.numpy(), wanted)
    assert (wide.numpy()[:, 1::2] == 0).all()
    pm.set_rng_state(state)
    np.testing.assert_array_equal(fill(pm.empty((30, 21), "float16")).numpy(), wanted.astype(np.float16))


# One element, a block of Philox and its neighbours, and the two around a grid that fills the emulated GPU.
COUNTS = [1, 3, 4, 5, 4 * 8 * 256 * 4 - 1, 4 * 8 * 256 * 4 + 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", COUNTS)
def test_random_draws_are_those_of_the_cpu(count, dtype):
    state = pm.get_rng_state()
    draws = {}
    for device in (None, "cpu"):
        pm.set_rng_state(state)
        # The views start one element behind an aligned address.
        u, z = (draw(pm.empty((count + 1,), dtype, device)[1:]) for draw in (uniform_, normal_))
        draws[device] = u.numpy(), z.numpy().astype(np.float64)
    np.testing.assert_array_equal(draws[None][0], draws["cpu"][0])
    # The logarithm and the circle are rounded differently; so is then, rarely, a two-byte result.
    rounding = {"float32": 2e-6, "float16": 2.0**-8, "bfloat16": 2.0**-5}[dtype]
    np.testing.assert_allclose(draws[None][1], draws["cpu"][1], rtol=0, atol=rounding)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
@pytest.mark.parametrize("draw", [pm.rand, pm.randn])
def test_random_tensors_have_the_asked_shape(draw, shape):
    x = draw(shape, requires_grad=True)
    assert x.shape == shape
    assert x.requires_grad
    assert x.is_leaf


def test_random_state_continues_exactly():
    pm.manual_seed(5)
    assert pm.initial_seed() == 5
    first = pm.rand((8,)).tolist()
    state = pm.get_rng_state()
    second = pm.randn((8,)).tolist()
    pm.set_rng_state(state)
    assert pm.randn((8,)).tolist() == second
    pm.manual_seed(5)
    assert pm.rand((8,)).tolist() == first
    pm.manual_seed(6)
    assert pm.rand((8,)).tolist() != first


@pytest.mark.host_only("threads of the CPU")
def test_random_bits_do_not_depend_on_threads():
    threads, results = pm.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            pm.set_num_threads(count)
            pm.manual_seed(7)
            results.append(pm.randn((100_001,)).numpy().tobytes() + pm.rand((100_001,)).numpy().tobytes())
    finally:
        pm.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.host_only("instruction sets of the CPU")
def test_random_draws_are_the_same_with_every_instruction_set():
    isas = ["generic", "avx2", "avx512", "avx512_bf16", "amx_bf16"]
    program = (
        "import hashlib, numpy as np, pymodel as pm\n"
        "pm.manual_seed(3)\n"
        "u, mask = pm.rand((70_001,)), pm.ops.dropout(pm.tensor(np.ones(70_001)), 0.3)\n"
        "print(hashlib.sha256(u.numpy().tobytes() + (mask.numpy() != 0).tobytes()).hexdigest())\n"
        "print(*pm.randn((2000,)).tolist())"
    )
    digests, normals = set(), []
    for isa in isas[: isas.index(_core.detected_isa()) + 1]:
        environment = {
            **os.environ,
            "PYMODEL_CPU_ISA": isa,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        digest, numbers = run.stdout.splitlines()
        digests.add(digest)
        normals.append([float(number) for number in numbers.split()])
    assert len(digests) == 1
    # The logarithm may round differently where the instruction set has fused multiplication.
    np.testing.assert_allclose(normals, [normals[0]] * len(normals), rtol=0, atol=2e-6)


def test_random_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"uniform_: low must not exceed high, got low=2 and high=1"):
        uniform_(pm.empty((3,)), 2, 1)
    with pytest.raises(ValueError, match=r"normal_: std must not be negative, got -1"):
        normal_(pm.empty((3,)), std=-1)
    with pytest.raises(TypeError, match=r"must be float32 or float16 or bfloat16, got int64"):
        pm.rand((3,), "int64")
