"""`python -m benchmarks.gpu`: tests, sanitizers and timings of the CUDA kernels, in ten minutes.

Writes benchmarks/results/<gpu>-<date>.json with every figure, lost rows included, and prints a table
of the stages last. `--rehearse` runs the same code with small shapes on the emulator, writes nothing
and proves nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import Stage, run_program, run_tests, sanitizer_programs
from benchmarks.harness import Case, Result, as_json
from benchmarks.machine import machine

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 10.0


class Clock:
    """What is left of the minutes that the whole check may take."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds."""
        return max(self._end - time.monotonic(), 0.0)


def time_kernels(clock: Clock, rehearse: bool, results: list[Result]) -> str:
    """Times every kernel and the training step as long as time is left; failures are rows too."""
    from benchmarks.gpu import kernels, timing, training

    place = kernels.Place("cpu", "simt", shrink=128) if rehearse else kernels.Place("cuda", "cuda")
    turn = timing.turn_on_host if rehearse else timing.turn_on_gpu()
    failed = skipped = 0
    suites = [
        (kernels.cases(place), turn, 3 if rehearse else 25),
        (training.cases(place), timing.turn_on_host, 5),
    ]
    for cases, timer, rounds in suites:
        for case in _until_error(cases):
            if isinstance(case, Case) and clock.left() > 20:
                try:
                    results.append(timing.measure(case, timer, rounds))
                    if rehearse:
                        print(f"{case.name}: agrees with torch", flush=True)
                    else:
                        _show(results[-1])
                    continue
                except Exception as error:
                    case = error
            if isinstance(case, Case):
                skipped += 1
            else:
                failed += 1
                print(f"FAILED {type(case).__name__}: {case}", flush=True)
    return f"{len(results)} timed, {failed} failed, {skipped} skipped for lack of time"


def _until_error(cases: Any) -> Any:
    """The cases, and the error of one that could not even be set up."""
    try:
        yield from cases
    except Exception as error:
        yield error


def _show(result: Result) -> None:
    scale, unit = (1e-12, "T" + result.unit) if result.unit in ("FLOP", "B") else (1.0, result.unit)
    rates = "  ".join(f"{name} {result.rate(name) * scale:9.3f}" for name in result.seconds)
    print(f"{result.name:62s} {rates} {unit}/s  ratio {result.ratio:5.2f}", flush=True)


def write_results(path: Path, facts: dict[str, Any], stages: list[Stage], results: list[Result]) -> None:
    """Everything that was found, as JSON."""
    found = {**facts, "stages": [stage._asdict() for stage in stages], "results": as_json(results)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


def main() -> int:
    """0 when every stage that ran passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--rehearse", action="store_true", help="small shapes on the emulator; writes nothing"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for everything (default 10)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON file"
    )
    options = parser.parse_args()
    clock = Clock(options.minutes)
    stages: list[Stage] = []
    results: list[Result] = []
    facts: dict[str, Any] = {"machine": machine()}
    if not options.rehearse:
        import torch

        if not torch.cuda.is_available():
            print("gpu-check needs an NVIDIA GPU that torch can use; `--rehearse` does without")
            return 2
        from benchmarks.gpu.timing import ceilings

        facts |= {"gpu": torch.cuda.get_device_name(0), "ceilings": ceilings()}
        for name, value in facts["ceilings"].items():
            print(f"ceiling: {name}: {value:.3e}")
    device = "simt" if options.rehearse else "cuda"
    stages.append(run_tests(device, ROOT, min(clock.left() * 0.35, 240), quick=options.rehearse))
    for program in () if options.rehearse else sanitizer_programs(ROOT):
        stages.append(run_program(*program, limit=min(clock.left() * 0.25, 75)))
    start = time.monotonic()
    summary = time_kernels(clock, options.rehearse, results)
    stages.append(Stage("timings", " 0 failed" in summary, round(time.monotonic() - start, 1), summary))
    if not options.rehearse:
        gpu = re.sub(r"[^a-z0-9]+", "-", facts["gpu"].lower()).strip("-")
        write_results(options.out / f"{gpu}-{time.strftime('%Y-%m-%d')}.json", facts, stages, results)
    print(f"\n{'stage':24s} {'result':8s} {'seconds':>8s}")
    for stage in stages:
        verdict = "passed" if stage.passed else "FAILED"
        print(f"{stage.name:24s} {verdict:8s} {stage.seconds:8.1f}  {stage.summary}")
    return 0 if all(stage.passed for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main())
