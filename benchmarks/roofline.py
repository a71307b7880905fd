"""The roofline: what was achieved over arithmetic intensity, below the machine's ceilings.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", Communications of the ACM 52, 2009.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from benchmarks.ceilings import Ceilings
from benchmarks.harness import OURS, Result
from pymodel.errors import ConfigError

MARKERS = {"float32": "o", "bfloat16": "s", "float16": "^"}


def check_plotting() -> None:
    """Raises ConfigError without matplotlib, before minutes are spent on measuring."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot: matplotlib is not installed; pip install 'pymodel-lm[plot]'")


def plot(path: Path, results: list[Result], ceilings: Ceilings) -> int:
    """Draws every result that has both arithmetic and traffic; returns how many there were."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = [r for r in results if r.flop > 0.0 and r.moved > 0.0]
    figure, axes = pyplot.subplots(figsize=(9.0, 6.0))
    intensities = [r.flop / r.moved for r in points] or [1.0]
    ends = (min(intensities) / 2.0, max(*intensities, ceilings.bfloat16 / ceilings.copy) * 2.0)
    peaks = [(ceilings.float32, "float32"), (ceilings.bfloat16, "bfloat16")]
    for peak, name in peaks if ceilings.bfloat16 > ceilings.float32 else peaks[:1]:
        corner = peak / ceilings.copy
        axes.plot([ends[0], corner, ends[1]], [ends[0] * ceilings.copy / 1e9, peak / 1e9, peak / 1e9],
                  color="black", linewidth=1.0)  # fmt: skip
        axes.text(ends[1], peak / 1e9, f"{name} {peak / 1e9:,.0f} GFLOP/s", ha="right", va="bottom")
    axes.text(ends[0], ends[0] * ceilings.copy / 1e9, f" copy {ceilings.copy / 1e9:.0f} GB/s", va="top")
    suites = sorted({_suite(r) for r in points})
    colours = dict(zip(suites, pyplot.get_cmap("tab10").colors * 2, strict=False))
    for result in points:
        intensity, colour = result.flop / result.moved, colours[_suite(result)]
        marker = MARKERS[result.dtype]
        for name in result.seconds:
            fill = colour if name == OURS else "none"
            rate = result.flop / result.seconds[name][0] / 1e9
            axes.scatter(intensity, rate, s=28, marker=marker, facecolors=fill, edgecolors=[colour])
    for suite in suites:
        axes.scatter([], [], color=colours[suite], label=suite)
    axes.set(
        xscale="log", yscale="log", xlabel="FLOP per byte that must move", ylabel="GFLOP/s",
        title=f"{ceilings.threads} threads; filled: pymodel, hollow: peers; "
        "circle float32, square bfloat16, triangle float16",
    )  # fmt: skip
    axes.title.set_fontsize(9)
    if suites:
        axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return len(points)


def _suite(result: Result) -> str:
    return result.name.split()[0]
