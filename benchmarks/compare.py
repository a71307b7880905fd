"""Today's results beside those of an earlier run.

Seconds differ from hour to hour on a shared machine, and from machine to machine. So a row is judged by
its rate over that of the peer which was best then, if both runs timed it; else by its share of the
ceiling; and only without either, and on the same processor, by its seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import OURS, Result
from benchmarks.report import SCHEMA
from pymodel.errors import DataError


class Change(NamedTuple):
    """How a row fares now against then: above 1 is faster."""

    name: str
    before: float
    now: float
    measure: str

    @property
    def factor(self) -> float:
        """Our speed now over that of then."""
        return self.now / self.before


class Base:
    """The results of an earlier run, read from what `--json` wrote."""

    def __init__(self, path: Path, machine: Mapping[str, Any]) -> None:
        """Reads the file; `machine` is this one.

        Raises: DataError for a file that is no such result.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            self._rows = {row["name"]: row for row in data["results"]}
            known = data["schema"] == SCHEMA
            there = data["machine"]
        except (ValueError, KeyError, TypeError) as problem:
            raise DataError(f"{path}: not a result of `pymodel bench --json` ({problem})") from problem
        if not known:
            raise DataError(f"{path}: written by another version; run `pymodel bench --json` anew")
        self._same_machine = all(there.get(key) == machine[key] for key in ("cpu", "threads"))

    def change(self, result: Result) -> Change | None:
        """None for a row that the earlier run did not have, or that cannot be compared."""
        row = self._rows.get(result.name)
        if row is None:
            return None
        then = {name: figures[0] for name, figures in row["seconds"].items()}
        now = {name: figures[0] for name, figures in result.seconds.items()}
        peers = [name for name in then if name != OURS and name in now]
        if peers:
            best = min(peers, key=lambda name: then[name])
            return Change(result.name, then[best] / then[OURS], now[best] / now[OURS], f"of {best}")
        if row["share"] and result.share:
            return Change(result.name, row["share"], result.share, "of the ceiling")
        if self._same_machine:
            return Change(result.name, 1.0 / then[OURS], 1.0 / now[OURS], "calls/s")
        return None


def text(changes: list[Change], allowed: float) -> str:
    """A line per row, the worst first."""
    lines = [
        f"  {c.factor - 1.0:+6.1%}  {c.name}: {c.before:.3g} then, {c.now:.3g} now {c.measure}"
        + ("  SLOWER" if slower(c, allowed) else "")
        for c in sorted(changes, key=lambda c: c.factor)
    ]
    count = sum(slower(c, allowed) for c in changes)
    return "\n".join([*lines, f"{count} of {len(changes)} rows slower by more than {100 * allowed:.4g}%"])


def slower(change: Change, allowed: float) -> bool:
    """Whether a row lost more of its speed than is allowed, a share of 1."""
    return change.factor < 1.0 - allowed
