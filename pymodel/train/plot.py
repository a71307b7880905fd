"""The losses of a run as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pymodel.errors import ConfigError, TrainingError
from pymodel.files import atomic_file


def plot_losses(log: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], title: str = "") -> None:
    """Draws training and held-out loss over the steps into a PNG file.

    Args:
        log: log lines, such as `read_metrics` returns.
        path: the file to write.
        title: above the picture.

    Raises:
        ConfigError: matplotlib is not installed.
        TrainingError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("loss plot: needs matplotlib; pip install 'pymodel-lm[plot]'") from None
    log = list(log)
    # A Figure of its own, without pyplot: no window system is asked for and no global state is left behind.
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, label, style in (("loss", "training", "-"), ("eval_loss", "held-out", "o-")):
        points = [(entry["step"], entry[name]) for entry in log if name in entry and "step" in entry]
        if points:
            steps, losses = zip(*points, strict=True)
            axes.plot(steps, losses, style, label=label, markersize=4, linewidth=1.5)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    with atomic_file(path, TrainingError) as stream:
        stream.write(image.getvalue())
