"""The cases of `pymodel bench` in small: everybody's results agree with the truth, and others are caught."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_training import one_thread

import pymodel as pm
from benchmarks import harness, reference
from benchmarks.ceilings import CeilingProbe, Ceilings
from benchmarks.harness import Case, Contest, agree, as_array, gate, measure
from benchmarks.models import (
    bench_encode,
    bench_generate,
    bench_memory,
    bench_overhead,
    bench_train,
    bench_translate,
    gpt2,
)
from benchmarks.models.minilm import EncoderSizes
from benchmarks.ops import (
    bench_adamw,
    bench_attention,
    bench_cross_entropy,
    bench_elementwise,
    bench_embedding,
    bench_gated_activation,
    bench_gemm,
    bench_rotary,
    bench_softmax,
    norm_cases,
)
from benchmarks.peers.available import choose
from benchmarks.peers.llm_c import trainer
from benchmarks.settings import Settings
from pymodel.errors import DataError
from pymodel.models import BartConfig, T5Config

__all__ = ["one_thread"]

TINY_T5 = T5Config(vocab_size=300, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3)
TINY_BART = BartConfig(
    vocab_size=300, d_model=24, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32,
    encoder_attention_heads=3, decoder_attention_heads=3,
)  # fmt: skip
TINY = gpt2.Sizes("tiny", n_layer=2, n_embd=32, n_head=2, vocab_size=300)
TINY_ENCODER = EncoderSizes("tiny encoder", 2, 32, 2, 48, 300)
PEERS = Settings(choose(None, None))
ALONE = Settings()


def small_cases(settings: Settings) -> Iterator[Case]:
    """Every kind of case, on a few numbers."""
    for dtype in ("float32", "bfloat16"):
        for layout in ("NN", "NT", "TN", "TT"):
            yield bench_gemm.product(settings, 5, 40, 3, layout, dtype, "small")
        for backward in (False, True):
            for causal in (False, True):
                yield bench_attention.attention(settings, 23, 2, 8, dtype, causal, backward)
            for name in ("layer_norm", "rms_norm"):
                yield norm_cases.norm_case(settings, name, 5, 20, dtype, backward)
            yield bench_softmax.softmax(settings, 5, 20, dtype, backward)
        yield bench_rotary.rotary(settings, 2, 5, 3, 8, dtype)
        yield bench_cross_entropy.cross_entropy(settings, 7, 30, dtype)
        yield bench_cross_entropy.linear_cross_entropy(settings, 7, 30, 8, dtype)
        yield bench_embedding.embedding(settings, 7, 5, 8, dtype)
        yield bench_elementwise.add(settings, 5, 20, dtype)
        yield bench_elementwise.gelu(settings, 5, 20, dtype)
        yield bench_gated_activation.swiglu(settings, 5, 20, dtype)
        yield bench_train.training(settings, TINY, 2, 8, dtype, bar=1.0)
        yield bench_encode.forward(settings, TINY_ENCODER, 5, 12, dtype, bar=1.0)
        yield bench_encode.training(settings, TINY_ENCODER, 2, 8, dtype, bar=1.0)
        yield bench_generate.generation(settings, TINY, dtype)
        for beams in (1, 3):
            yield bench_translate.translation(settings, TINY_T5, dtype, 2, beams)
        yield bench_translate.translation(settings, TINY_BART, dtype, 1, 1)
    yield bench_gemm.product(settings, 5, 40, 3, "NN", "float16", "small")
    yield bench_adamw.step(settings, "small", [(3, 5), (7,)], cold=False)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that rotate need not outgrow a cache here."""
    monkeypatch.setattr("benchmarks.ops.op_case.COLD", 4000)


@pytest.mark.parametrize("case", list(small_cases(PEERS)), ids=lambda case: case.name)
def test_benchmarks_agree_with_the_truth(case: Case) -> None:
    contest = case.prepare()
    assert set(contest.contenders) == {"pymodel", *(set(case.peers) & PEERS.peers)}
    contest.check()


@pytest.mark.parametrize("case", list(small_cases(ALONE)), ids=lambda case: case.name)
def test_benchmarks_need_no_peer(case: Case) -> None:
    contest = case.prepare()
    assert set(contest.contenders) == {"pymodel"}
    contest.check()


@pytest.mark.parametrize("case", list(small_cases(ALONE)), ids=lambda case: case.name)
def test_benchmarks_catch_wrong_results(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of ours is bent by a fifth."""
    if case.unit == "tokens":
        pytest.skip("without a peer, whole models are held to falling losses and lengths only")

    def bent(x: object) -> np.ndarray:
        return as_array(x) * (1.2 if isinstance(x, pm.Tensor) else 1.0)

    monkeypatch.setattr(harness, "as_array", bent)
    contest = case.prepare()
    with pytest.raises(AssertionError, match="pymodel, result 0: results differ by"):
        contest.check()


def test_benchmarks_gate_names_who_is_wrong() -> None:
    right, wrong = [np.ones(3), np.ones(2)], [np.ones(3), np.array([1.0, 3.0])]
    contest = gate({"pymodel": lambda: right, "torch": lambda: wrong}, lambda: right, 1e-3, "sum")
    with pytest.raises(AssertionError, match="sum, torch, result 1: results differ by"):
        contest.check()
    with pytest.raises(AssertionError, match=r"shapes \(3,\) and \(2,\) differ"):
        agree(np.ones(3), np.ones(2), 1.0, "sum")
    with pytest.raises(AssertionError, match="differ by nan"):
        agree([np.nan], [1.0], 1.0, "sum")


def test_benchmarks_wrong_results_are_not_timed() -> None:
    calls = iter([[1.0]])  # a second one would raise StopIteration

    def prepare() -> Contest:
        return gate({"pymodel": lambda: next(calls)}, lambda: [2.0], 1e-3, "x")

    with pytest.raises(AssertionError, match="x, pymodel"):
        measure(Case("x", prepare, 1.0, "B"))


def test_benchmarks_ceilings_bound_what_a_case_can_do() -> None:
    ceilings = Ceilings(threads=2, float32=100.0, bfloat16=400.0, copy=10.0, read=12.0)
    make = lambda **more: Case("x", lambda: None, 1.0, "B", **more)  # type: ignore[arg-type, return-value]  # noqa: E731
    assert ceilings.seconds(make(flop=200.0, read=5.0, written=5.0)) == 2.0
    assert ceilings.seconds(make(flop=200.0, read=5.0, written=5.0, dtype="bfloat16")) == 1.0
    assert ceilings.seconds(make(read=24.0)) == 2.0
    assert ceilings.seconds(make()) is None


def test_benchmarks_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.ceilings.BUFFER", 1 << 14)
    before = pm.get_num_threads()
    found = CeilingProbe().measure(2)
    assert (found.threads, pm.get_num_threads()) == (2, before)
    assert found.bfloat16 >= found.float32 > 0.0
    assert min(found.copy, found.read) > 0.0


def test_benchmarks_memory_of_a_step() -> None:
    """Each contender has a process of its own."""
    for contender in ("pymodel", *(["torch"] if "torch" in PEERS.peers else [])):
        peak = bench_memory.peak(contender, gpt2.SMALL, 2, 16, "float32")
        assert 16.0 < peak < 500.0, "four numbers a parameter, of 1.4 million"


def test_benchmarks_share_outside_kernels() -> None:
    assert 0.0 <= bench_overhead.share_outside(TINY, 2, 8, "float32") < 100.0


def test_benchmarks_llm_c_steps_when_it_is_asked(tmp_path: Path) -> None:
    program = tmp_path / "train_gpt2"
    program.write_text(
        "#!/bin/sh\necho '[GPT-2]'\n"
        "for step in 0 1 2; do echo $step >>steps; echo step $step: train loss 5.${step}0; done\n"
        "echo no more tokens; exit 3\n"
    )
    program.chmod(0o755)
    step = trainer(tmp_path)
    assert not (tmp_path / "steps").exists(), "it starts with its first turn"
    assert [step() for _ in range(3)] == [[5.0], [5.1], [5.2]]
    with pytest.raises(DataError, match="train_gpt2 ended: no more tokens"):
        step()


def test_benchmarks_reference_gradients_are_derivatives() -> None:
    """What peers are held to is itself held to differences."""
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(shape) for shape in ((3, 4), 4, 4, (3, 4)))
    h = 1e-6
    for gradient, forward in (
        (reference.layer_norm(x, w, b, dy)[1], lambda z: reference.layer_norm(z, w, b)[0]),
        (reference.rms_norm(x, w, dy)[1], lambda z: reference.rms_norm(z, w)[0]),
        (reference.softmax(x, dy)[1], lambda z: reference.softmax(z)[0]),
        (reference.gelu(x, dy)[1], lambda z: reference.gelu(z, dy)[0]),
        (reference.swiglu(x, dy, dy)[1], lambda z: reference.swiglu(z, dy, dy)[0]),
        (reference.swiglu(dy, x, dy)[2], lambda z: reference.swiglu(dy, z, dy)[0]),
    ):
        for index in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[index] = h
            difference = ((forward(x + step) - forward(x - step)) * dy).sum() / (2 * h)
            assert gradient[index] == pytest.approx(difference, abs=1e-7)


def test_benchmarks_results_of_this_repository_can_be_read(repo_root: Path) -> None:
    for file in (repo_root / "benchmarks" / "results").glob("*.json"):
        assert json.loads(file.read_text())["results"]
