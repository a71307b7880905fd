"""What a run says: a line as each figure is known, then tables with the worst first, then JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.ceilings import Ceilings
from benchmarks.harness import OURS, Result, as_json
from benchmarks.runner import Found, Report
from pymodel.errors import DataError
from pymodel.files import atomic_file

SCHEMA = 1
SCALES = {
    "FLOP": (1e-9, "GFLOP/s"),
    "B": (1e-9, "GB/s"),
    "tokens": (1.0, "tokens/s"),
    "calls": (1e-3, "k calls/s"),
}


def line(finding: Result | Found | str) -> str:
    """One finding in a line."""
    if isinstance(finding, str):
        return finding
    if isinstance(finding, Found):
        return f"{finding.name:70s} {_value(finding)}, at most {finding.limit:,.4g}  {_verdict(finding.met)}"
    rates = "  ".join(f"{name} {_rate(finding, name)}" for name in finding.seconds)
    return f"{finding.name:70s} {rates} {SCALES[finding.unit][1]}  {_ratio(finding)}{_share(finding, '  ')}"


def tables(report: Report) -> str:
    """The bars, then every case, both sorted by how far they are from their bar, in Markdown."""
    parts = []
    if any(result.ratio for result in report.results):
        parts += [_table(["work", "cases", "ratio", "worst", "bar", "of ceiling", ""], _bars(report))]
    if report.results:
        header = ["case", "pymodel", "best peer", "", "time (20 % to 80 %)", "ratio", "bar", "of ceiling"]
        parts += [_table(header, [_row(result) for result in sorted(report.results, key=_distance)])]
    if report.found:
        rows = [[f.name, _value(f), f"{f.limit:,.4g}", _verdict(f.met)] for f in report.found]
        parts += [_table(["figure", "measured", "at most", ""], rows)]
    return "\n\n".join([*parts, losses(report)])


def losses(report: Report) -> str:
    """How many bars are met, and what could not be measured."""
    missed = sum(r.ratio is not None and r.ratio < r.bar for r in report.results)
    missed += sum(not finding.met for finding in report.found)
    compared = sum(r.ratio is not None for r in report.results) + len(report.found)
    lines = [f"{compared - missed} of {compared} bars met; the others are in bold above, the worst first."]
    if not compared:
        lines = ["No peer was measured: rates and shares of the ceiling only."]
    return "\n".join([*lines, *(f"FAILED {name}: {why}" for name, why in report.failures.items())])


def write_json(path: Path, machine: dict[str, Any], ceilings: list[Ceilings], report: Report) -> None:
    """Everything, for `--compare` and for whoever wants to draw their own conclusions."""
    data = {
        "schema": SCHEMA,
        "machine": machine,
        "ceilings": [ceiling.as_json() for ceiling in ceilings],
        "suite_ceilings": {suite: ceiling.as_json() for suite, ceiling in report.ceilings.items()},
        "results": as_json(report.results),
        "readings": [finding._asdict() for finding in report.found],
        "failures": report.failures,
    }
    with atomic_file(path, DataError) as stream:
        stream.write(json.dumps(data, indent=1).encode() + b"\n")


def geometric_mean(values: list[float]) -> float:
    """Of ratios, whose mean it is."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _bars(report: Report) -> list[list[str]]:
    rows = []
    for name, results in report.groups.items():
        ratios = [r.ratio for r in results if r.ratio is not None]
        if not ratios:
            continue
        mean, worst, bar = geometric_mean(ratios), min(ratios), results[0].bar
        shares = [r.share for r in results if r.share is not None]
        share = f"{geometric_mean(shares):.0%}" if shares else ""
        verdict = "ok" if worst >= bar else "ok on average" if mean >= bar else "**below**"
        cells = [name, str(len(ratios)), f"{mean:.2f}", f"{worst:.2f}", f"{bar:g}", share, verdict]
        rows.append((mean / bar, cells))
    return [cells for _, cells in sorted(rows, key=lambda row: row[0])]


def _row(result: Result) -> list[str]:
    peer = result.best_peer
    middle, low, high = (_duration(seconds) for seconds in result.seconds[OURS])
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
    return [
        result.name, _rate(result, OURS), _rate(result, peer) if peer else "",
        SCALES[result.unit][1] + (f", {peer}" if peer else ""), f"{middle} ({low} to {high})",
        f"**{ratio}**" if result.ratio is not None and result.ratio < result.bar else ratio,
        f"{result.bar:g}", _share(result, "", ""),
    ]  # fmt: skip


def _table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)


def _distance(result: Result) -> float:
    """Sorts: how far above the bar; without a peer, by the share of the ceiling and last."""
    if result.ratio is None:
        return 1e6 + (result.share or 0.0)
    return result.ratio / result.bar


def _rate(result: Result, contender: str) -> str:
    rate = result.rate(contender) * SCALES[result.unit][0]
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _ratio(result: Result) -> str:
    if result.ratio is None:
        return ""
    return f"ratio {result.ratio:5.2f}  {_verdict(result.ratio >= result.bar)}"


def _share(result: Result, before: str, after: str = " of the ceiling") -> str:
    return "" if result.share is None else f"{before}{result.share:.0%}{after}"


def _value(found: Found) -> str:
    return f"{found.value:,.4g} {found.unit}"


def _verdict(met: bool) -> str:
    return "ok" if met else "BELOW"


def _duration(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
