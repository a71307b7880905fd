"""Runs suites and collects what they find."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pymodel as pm
from benchmarks.ceilings import CeilingProbe, Ceilings
from benchmarks.harness import OURS, Case, Reading, Result, measure
from benchmarks.settings import Settings
from benchmarks.suites import cases_of


class Found(NamedTuple):
    """What a `Reading` gave."""

    name: str
    unit: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.value <= self.limit


@dataclass
class Report:
    """Everything that a run found."""

    results: list[Result] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # what went wrong, by case
    ceilings: dict[str, Ceilings] = field(default_factory=dict)  # by suite

    def add(self, finding: Result | Found) -> None:
        """Keeps a finding with its kind."""
        if isinstance(finding, Result):
            self.results.append(finding)
        else:
            self.found.append(finding)

    @property
    def groups(self) -> dict[str, list[Result]]:
        """The results by the summary's rows."""
        rows: dict[str, list[Result]] = {}
        for result in self.results:
            rows.setdefault(result.group or result.name, []).append(result)
        return rows


class Runner:
    """Measures suites one after the other, with the ceilings of the minute."""

    def __init__(self, settings: Settings, rounds: int, suspicious: Callable[[Result], bool]) -> None:
        """Takes what to measure, and whether a result looks so bad that it is to be measured again."""
        self._settings = settings
        self._rounds = rounds
        self._suspicious = suspicious
        self._probe = CeilingProbe()

    def run(
        self, suites: Sequence[str], report: Report, show: Callable[[Result | Found | str], None]
    ) -> None:
        """Adds to the report; each finding is shown as soon as it is known, failures as text."""
        for suite in suites:
            ceilings = report.ceilings[suite] = self._probe.measure()
            for case in cases_of(suite, self._settings):
                try:
                    finding = self._measured(case, ceilings)
                except Exception as error:  # one broken case must not lose the figures of the others
                    report.failures[case.name] = f"{type(error).__name__}: {error}"
                    show(f"FAILED {case.name}: {report.failures[case.name]}")
                else:
                    report.add(finding)
                    show(finding)
                gc.collect()  # a case is large
                pm.empty_cache()

    def _measured(self, case: Case | Reading, ceilings: Ceilings) -> Result | Found:
        if isinstance(case, Reading):
            return Found(case.name, case.unit, *case.measure())
        result = measure(case, self._rounds)
        if self._suspicious(result):
            again = measure(case, self._rounds)
            result = min(result, again, key=lambda r: (-(r.ratio or 0.0), r.seconds[OURS][0]))
        result.ceiling_seconds = ceilings.seconds(case)
        return result
