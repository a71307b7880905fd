"""Every case of `pymodel bench` as a test: its contenders side by side in one group of pytest-benchmark.

pytest benchmarks/ --quick -k "gemm and bfloat16"
"""

from __future__ import annotations

from typing import Any

import pytest

import pymodel as pm
from benchmarks.harness import OURS, Case, Reading, calls_per_turn
from benchmarks.peers.available import choose, set_threads
from benchmarks.settings import Settings
from benchmarks.suites import SUITES, cases_of

ROUNDS = 5


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases make no data before they are run, so all of them can be listed."""
    settings = Settings(choose(None, None), quick=metafunc.config.getoption("--quick"))
    set_threads(settings.peers, pm.get_num_threads())
    found = [case for name, suite in SUITES.items() if suite.default for case in cases_of(name, settings)]
    if "reading" in metafunc.fixturenames:
        metafunc.parametrize("reading", [r for r in found if isinstance(r, Reading)], ids=lambda r: r.name)
    else:
        pairs = [
            pytest.param(case, contender, id=f"{case.name}-{contender}")
            for case in found
            if isinstance(case, Case)
            for contender in (OURS, *(peer for peer in case.peers if peer in settings.peers))
        ]
        metafunc.parametrize(("case", "contender"), pairs)


def test_case(case: Case, contender: str, benchmark: Any) -> None:
    contest = case.prepare()
    contest.check()
    call = contest.contenders[contender]
    benchmark.group = case.name
    benchmark.extra_info.update(work=case.work, unit=case.unit, bar=case.bar)
    benchmark.pedantic(call, rounds=ROUNDS, iterations=max(1, calls_per_turn(call, case.seconds)))


def test_reading(reading: Reading) -> None:
    value, limit = reading.measure()
    assert value <= limit, f"{value:,.4g} {reading.unit}, at most {limit:,.4g}"
