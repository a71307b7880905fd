"""What `pymodel bench` does once its options are parsed."""

from __future__ import annotations

import difflib
import time
from pathlib import Path
from typing import Protocol

import pymodel as pm
from benchmarks.ceilings import CeilingProbe
from benchmarks.compare import Base, Change, slower, text
from benchmarks.harness import Case, Result
from benchmarks.machine import json_file, machine
from benchmarks.peers.available import choose, set_threads
from benchmarks.report import line, tables, write_json
from benchmarks.roofline import check_plotting, plot
from benchmarks.runner import Found, Report, Runner
from benchmarks.settings import DTYPES, Settings
from benchmarks.suites import SUITES, cases_of
from pymodel.errors import ConfigError

ROUNDS, QUICK_ROUNDS = 5, 3


class Options(Protocol):
    """The options of the command line; see pymodel/cli/bench.py."""

    suites: tuple[str, ...]
    against: tuple[str, ...] | None
    json: str | None
    compare: str | None
    fail_above: str
    plot: str | None
    threads: int | None
    dtype: tuple[str, ...]
    rounds: int | None
    quick: bool
    list: bool
    llm_c: str | None


def bench(options: Options) -> int:
    """Runs what the options ask for.

    Returns: 0, or 1 when results disagreed with the truth or a row was slower than the base allows.

    Raises: ConfigError for options that do not fit; DataError for a base that is none.
    """
    suites = _suites(options.suites)
    settings = _settings(options)
    if options.list:
        _list(suites, settings)
        return 0
    if options.plot:
        check_plotting()
    if options.threads is not None and options.threads < 1:
        raise ConfigError(f"--threads: expected 1 or more, got {options.threads}")
    allowed = _percentage(options.fail_above)
    pm.set_num_threads(options.threads or pm.get_num_threads())
    set_threads(settings.peers, pm.get_num_threads())
    where = machine()
    base = Base(Path(options.compare), where) if options.compare else None
    return _run(options, suites, settings, where, base, allowed)


def _run(
    options: Options, suites: list[str], settings: Settings, where: dict, base: Base | None, allowed: float
) -> int:
    start = time.monotonic()
    ceilings = [CeilingProbe().measure(count) for count in sorted({1, pm.get_num_threads()})]
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    print("\n".join(f"ceiling, {ceiling}" for ceiling in ceilings))
    print(f"against {', '.join(sorted(settings.peers)) or 'nobody: no peer is installed'}\n", flush=True)

    def suspicious(result: Result) -> bool:
        return any(slower(change, allowed) for change in _changes(base, [result]))

    def show(finding: Result | Found | str) -> None:
        print(line(finding), flush=True)

    report = Report()
    Runner(settings, _rounds(options), suspicious).run(suites, report, show)
    print(f"\n{tables(report)}\n\n{time.monotonic() - start:,.0f} s in all")
    if options.json:
        write_json(json_file(Path(options.json), where), where, ceilings, report)
    if options.plot:
        print(f"{plot(Path(options.plot), report.results, ceilings[-1])} results drawn in {options.plot}")
    changes = _changes(base, report.results)
    if base:
        print(f"\nagainst {options.compare}:\n{text(changes, allowed)}")
    return 1 if report.failures or any(slower(change, allowed) for change in changes) else 0


def _changes(base: Base | None, results: list[Result]) -> list[Change]:
    found = [base.change(result) for result in results] if base else []
    return [change for change in found if change is not None]


def _suites(names: tuple[str, ...]) -> list[str]:
    for name in names:
        if name not in SUITES:
            near = difflib.get_close_matches(name, SUITES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(SUITES)}"
            raise ConfigError(f"unknown benchmark {name!r}; {hint}")
    return list(names) or [name for name, suite in SUITES.items() if suite.default]


def _settings(options: Options) -> Settings:
    for dtype in options.dtype:
        if dtype not in DTYPES:
            raise ConfigError(f"--dtype {dtype}: expected {', '.join(DTYPES)}")
    llm_c = Path(options.llm_c).absolute() if options.llm_c else None
    return Settings(choose(options.against, llm_c), options.dtype or DTYPES, options.quick, llm_c)


def _rounds(options: Options) -> int:
    if options.rounds is None:
        return QUICK_ROUNDS if options.quick else ROUNDS
    if options.rounds < 1:
        raise ConfigError(f"--rounds: expected 1 or more, got {options.rounds}")
    return options.rounds


def _percentage(words: str) -> float:
    try:
        value = float(words.removesuffix("%")) / 100.0
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"--fail-above: expected per cent from 0 to below 100, such as 5%, got {words!r}")
    return value


def _list(suites: list[str], settings: Settings) -> None:
    for name in suites:
        suite = SUITES[name]
        print(f"{name}: {suite.text}" + ("" if suite.default else " (only when named)"))
        for case in cases_of(name, settings):
            bar = f", bar {case.bar:g} against {' and '.join(case.peers)}" if isinstance(case, Case) else ""
            print(f"  {case.name}{bar}")
