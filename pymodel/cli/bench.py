"""`pymodel bench`: kernels and training steps beside their peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from pymodel.cli.options import parse

DESCRIPTION = """Time kernels, training steps and generation beside torch, OpenBLAS, transformers and llm.c.

Results must agree with float64 before anything is timed. Contenders take turns in one process, at the
same dtype and threads; medians count. The machine's ceilings (multiply-adds, copy, read) are measured
in the same run. Peers are optional: without any, rates and shares of the ceiling are shown.

examples:
  pymodel bench --list                              what there is
  pymodel bench gemm attention --against torch
  pymodel bench --quick --json today.json           two minutes instead of ten
  pymodel bench gemm --compare base.json --fail-above 5%     exit code 1 when a row is slower
  pymodel bench gemm adamw --plot roofline.png
"""


@dataclass
class BenchOptions:
    """What `pymodel bench` is told."""

    suites: Positional[tuple[str, ...]] = ()
    """What to run, by the names that --list shows; everything but the slowest by default."""
    against: tuple[str, ...] | None = None
    """Peers: torch, openblas, transformers, llm.c; by default all that are installed."""
    json: str | None = None
    """Write machine, ceilings and figures to this file, or into this folder under a name of their own."""
    compare: str | None = None
    """An earlier --json file; rows are compared by their ratio to the peer, else to the ceiling."""
    fail_above: str = "5%"
    """With --compare: exit with 1 when a row is slower by more than this."""
    plot: str | None = None
    """Draw the roofline into this PNG file; needs matplotlib."""
    threads: int | None = None
    """For everybody; by default what OMP_NUM_THREADS says, or all cores."""
    dtype: tuple[str, ...] = ()
    """Only these: float32, bfloat16, float16."""
    rounds: int | None = None
    """Turns of each contender; 5 by default, 3 with --quick."""
    quick: bool = False
    """A few telling cases of each suite."""
    list: bool = False
    """Show the cases and their bars, and measure nothing."""
    llm_c: str | None = None
    """A checkout of llm.c in which `make train_gpt2` has run, with its model and data."""


def run(words: Sequence[str]) -> int:
    """Runs the command; 1 when a row disagreed or was slower than allowed."""
    options = parse(BenchOptions, "bench", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_bench import bench

    return bench(options)
