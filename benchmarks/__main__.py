"""`python -m benchmarks [names] [--json FILE]`: everything against its peers, losses shown."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))

from benchmarks.harness import Result, as_json, machine, run
from benchmarks.limits import limits

SUITES = {
    "gemm": "benchmarks.ops.bench_gemm",
    "attention": "benchmarks.ops.bench_attention",
    "layer_norm": "benchmarks.ops.bench_layer_norm",
    "adamw": "benchmarks.ops.bench_adamw",
    "gpt2_training": "benchmarks.models.bench_gpt2_training",
}


def show(result: Result) -> None:
    """One line: rates, ratio to the best peer, and whether the bar is met."""
    scale, suffix = (1e-9, f"G{result.unit}/s") if result.unit in ("FLOP", "B") else (1.0, f"{result.unit}/s")
    rates = "  ".join(f"{name} {result.rate(name) * scale:8.1f}" for name in result.seconds)
    verdict = "ok" if result.ratio >= result.bar else f"BELOW {result.bar}"
    print(f"{result.name:66s} {rates} {suffix:9s} ratio {result.ratio:5.2f}  {verdict}", flush=True)


def main() -> int:
    """Runs the suites named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}, limits; all by default"
    )
    parser.add_argument("--json", type=Path, help="write the figures and the machine to this file")
    parser.add_argument("--rounds", type=int, default=7, help="turns per contender (default 7)")
    options = parser.parse_args()
    names = options.suites or [*SUITES, "limits"]
    unknown = [name for name in names if name not in SUITES and name != "limits"]
    if unknown:
        parser.error(f"unknown suite {unknown[0]!r}; expected one of {', '.join(SUITES)}, limits")
    import torch

    import pymodel as pm

    torch.set_num_threads(pm.get_num_threads())
    where = machine()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    results = []
    for name in names:
        if name in SUITES:
            results += run(importlib.import_module(SUITES[name]).cases(), options.rounds, show)
    facts = limits() if "limits" in names else {}
    for what, (value, bar, unit) in facts.items():
        print(f"{what:66s} {value:10.3f} {unit:8s} (at most {bar}) {'ok' if value <= bar else 'ABOVE'}")
    lost = sorted((r for r in results if r.ratio < r.bar), key=lambda r: r.ratio / r.bar)
    print(f"\n{len(results) - len(lost)} of {len(results)} bars met" + ("; below:" if lost else ""))
    for result in lost:
        print(f"  {result.name}: {result.ratio:.2f} of the best peer, bar {result.bar}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        data = {"machine": where, "results": as_json(results), "limits": facts}
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
