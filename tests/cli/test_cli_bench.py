"""`pymodel bench` on a suite of a few naps: what it prints, keeps, compares and refuses."""

import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Result, run

import pymodel as pm
from benchmarks import ceilings, harness
from benchmarks.harness import Case, Reading, gate
from benchmarks.suites import SUITES, Suite

NAP = 1.0 / 1024.0  # seconds
MODULE = "benchmarks.naps"


class Clock:
    """Time that passes only in naps, so that no figure depends on how busy the machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


def nap(length: float, value: float = 1.0) -> Callable[[], list[float]]:
    def call() -> list[float]:
        CLOCK.sleep(length)
        return [value]

    return call


def case(name: str, ours: float, theirs: float, found: float = 1.0, **more: Any) -> Case:
    """A nap of ours beside one of torch's; `found` is what ours gives instead of 1."""
    contenders = {"pymodel": nap(ours, found), "torch": nap(theirs)}
    return Case(
        name, lambda: gate(contenders, lambda: [1.0], 1e-6, name), 1e6, "FLOP", seconds=2 * NAP,
        flop=1e6, read=1e5, written=1e5, **more,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "BUFFER", 1 << 12)
    monkeypatch.setattr(ceilings, "TURN", 1e-4)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[Case | Reading]:
    """The cases of a suite `naps`, which the test may extend."""
    found: list[Case | Reading] = [case("quick one", NAP, 4 * NAP), case("slow one", 4 * NAP, NAP)]
    module = types.ModuleType(MODULE)
    module.cases = lambda settings: iter(found)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setitem(SUITES, "naps", Suite("naps", "for these tests", default=False))
    monkeypatch.setattr(harness, "time", CLOCK)
    return found


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of packages that cannot be found while they are in this set."""
    names: set[str] = set()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))
    return names


def bench(*words: object, code: int = 0) -> Result:
    return run("bench", "naps", "--rounds", "3", *words, code=code)


def test_bench_table_shows_the_worst_first(naps: list[Case | Reading]) -> None:
    naps.append(Reading("patience", "s", lambda: (3.0, 2.0)))
    shown = bench().stdout
    table = shown[shown.index("| case") :]
    assert table.index("slow one") < table.index("quick one") < table.index("patience")
    assert "**0.25**" in table  # 1 ms against 4 ms
    assert "of ceiling" in table
    assert "1 of 3 bars met" in shown
    assert "ceiling, 1 thread: float32" in shown


def test_bench_bars_are_geometric_means_of_a_group(naps: list[Case | Reading]) -> None:
    naps[:] = [case("a", NAP, 8 * NAP, group="both"), case("b", 4 * NAP, NAP, group="both")]
    row = next(line for line in bench().stdout.splitlines() if line.startswith("| both"))
    _, _, count, mean, worst, bar, _, verdict, _ = (cell.strip() for cell in row.split("|"))
    assert (count, mean, worst, bar, verdict) == ("2", "1.41", "0.25", "1", "ok on average")


def test_bench_json_holds_every_figure(naps: list[Case | Reading], tmp_path: Path) -> None:
    naps.append(Reading("patience", "s", lambda: (1.0, 2.0)))
    bench("--json", tmp_path / "new" / "out.json")
    data = json.loads((tmp_path / "new" / "out.json").read_text())
    assert data["schema"] == 1
    assert {"cpu", "threads", "isa", "pymodel", "commit", "date"} <= set(data["machine"])
    assert data["ceilings"][0]["threads"] == 1
    assert data["suite_ceilings"]["naps"]["copy"] > 0
    quick, slow = data["results"]
    assert (quick["name"], slow["name"]) == ("quick one", "slow one")
    median, low, high = quick["seconds"]["pymodel"]
    assert low == median == high == NAP
    assert quick["ratio"] == 4.0
    assert quick["share"] == pytest.approx(quick["ceiling_seconds"] / NAP)
    assert data["readings"] == [{"name": "patience", "unit": "s", "value": 1.0, "limit": 2.0}]
    assert data["failures"] == {}


def test_bench_json_names_its_own_file_in_a_folder(naps: list[Case | Reading], tmp_path: Path) -> None:
    bench("--json", tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("cpu-")
    assert file.name.endswith(f"{time.strftime('%Y-%m-%d')}.json")


def test_bench_compare_fails_when_a_row_got_slower(naps: list[Case | Reading], tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    bench("--json", base)
    assert "0 of 2 rows slower" in bench("--compare", base, "--fail-above", "50%").stdout
    data = json.loads(base.read_text())
    # As if we had once been three times as fast on the quick one, on a machine seven times as slow.
    for row in data["results"]:
        factor = 3.0 if row["name"] == "quick one" else 1.0
        row["seconds"]["pymodel"] = [7.0 * x / factor for x in row["seconds"]["pymodel"]]
        row["seconds"]["torch"] = [7.0 * x for x in row["seconds"]["torch"]]
    base.write_text(json.dumps(data))
    shown = bench("--compare", base, "--fail-above", "50%", code=1).stdout
    assert "1 of 2 rows slower by more than 50%" in shown
    assert "  -66.7%  quick one: 12 then, 4 now of torch  SLOWER\n" in shown
    assert "0 of 2 rows slower" in bench("--compare", base, "--fail-above", "80%").stdout


def test_bench_compare_without_a_peer_takes_the_ceiling(naps: list[Case | Reading], tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    alone = case("alone", NAP, NAP)
    alone.prepare = lambda: gate({"pymodel": nap(NAP)}, lambda: [1.0], 0.0, "alone")
    naps[:] = [alone]
    shown = bench("--json", base).stdout
    assert "No peer was measured" in shown
    assert "now of the ceiling" in bench("--compare", base, "--fail-above", "90%").stdout


@pytest.mark.parametrize(
    "content", ["", "[]", '{"results": 3}', '{"schema": 0, "machine": {}, "results": []}']
)
def test_bench_compare_refuses_other_files(naps: list[Case | Reading], tmp_path: Path, content: str) -> None:
    (tmp_path / "base.json").write_text(content)
    assert "base.json" in bench("--compare", tmp_path / "base.json", code=2).stderr


def test_bench_wrong_results_are_never_timed(naps: list[Case | Reading], tmp_path: Path) -> None:
    naps.insert(0, case("wrong one", NAP, NAP, found=1.1))
    shown = bench("--json", tmp_path / "out.json", code=1).stdout
    assert (
        "FAILED wrong one: AssertionError: wrong one, pymodel, result 0: results differ by 1.00e-01" in shown
    )
    data = json.loads((tmp_path / "out.json").read_text())
    assert list(data["failures"]) == ["wrong one"]
    assert [row["name"] for row in data["results"]] == ["quick one", "slow one"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gem"], "unknown benchmark 'gem'; did you mean 'gemm'?"),
        (["naps", "--against", "tensorflow"], "--against tensorflow: unknown peer; expected torch, openblas"),
        (["naps", "--against", "llm.c"], "--against llm.c: say where it is: --llm-c PATH"),
        (["naps", "--against", "llm.c", "--llm-c", "/nowhere"], "there is no /nowhere/train_gpt2"),
        (["naps", "--dtype", "float64"], "--dtype float64: expected float32, bfloat16, float16"),
        (["naps", "--rounds", "0"], "--rounds: expected 1 or more, got 0"),
        (["naps", "--threads", "0"], "--threads: expected 1 or more, got 0"),
        (["naps", "--fail-above", "many"], "--fail-above: expected per cent"),
        (["naps", "--compare", "/nowhere.json"], "/nowhere.json: No such file"),
    ],
)
def test_bench_refuses_what_it_cannot_do(naps: list[Case | Reading], words: list[str], message: str) -> None:
    assert message in run("bench", *words, code=2).stderr


def test_bench_says_which_package_a_peer_needs(naps: list[Case | Reading], missing: set[str]) -> None:
    missing.add("torch")
    for peer in ("torch", "transformers"):
        shown = bench("--against", peer, code=2).stderr
        assert f"--against {peer}: torch is not installed; pip install 'pymodel-lm[bench]' brings it" in shown


def test_bench_runs_without_any_peer(missing: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    missing.update(("torch", "transformers", "threadpoolctl"))
    monkeypatch.setitem(sys.modules, "benchmarks.peers.torch_ops", None)  # importing it would raise
    shown = run("bench", "adamw", "--quick", "--rounds", "1").stdout
    assert "against nobody" in shown
    assert "| adamw 4 x 128 GPT (1.4 M) | " in shown
    assert "FAILED" not in shown


def test_bench_threads_are_everybodys(naps: list[Case | Reading]) -> None:
    torch = pytest.importorskip("torch")
    bench("--threads", "2", "--against", "torch")
    assert pm.get_num_threads() == torch.get_num_threads() == 2


def test_bench_lists_every_case_without_running_any() -> None:
    shown = run("bench", "--list").stdout
    for name in SUITES:
        assert SUITES[name].default == (f"\n{name}: " in f"\n{shown}")
    assert "  gemm bfloat16 1024 x 2304 x 768 NN (GPT-2 qkv forward), bar 1 against torch" in shown
    few = run("bench", "--list", "--quick", "--dtype", "float32").stdout
    assert len(few.splitlines()) < len(shown.splitlines()) / 2
    assert "bfloat16" not in few


def test_bench_plots_the_roofline(naps: list[Case | Reading], missing: set[str], tmp_path: Path) -> None:
    file = tmp_path / "roofline.png"
    assert "2 results drawn" in bench("--plot", file).stdout
    assert file.read_bytes().startswith(b"\x89PNG")
    missing.add("matplotlib")
    assert "--plot: matplotlib is not installed; pip install" in bench("--plot", file, code=2).stderr
