"""The log of a run as a file: one JSON object a line, readable while the run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pymodel.errors import TrainingError
from pymodel.files import atomic_file
from pymodel.train.arguments import TrainingArguments
from pymodel.train.callbacks import TrainerCallback
from pymodel.train.state import TrainerControl, TrainerState

METRICS_FILE = "metrics.jsonl"


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line that was cut off is left out."""
    lines: list[dict[str, Any]] = []
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return lines
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            lines.append(entry)
    return lines


class MetricsFile(TrainerCallback):
    """Writes every log line to `metrics.jsonl` in the run's folder.

    A new run starts the file anew; a resumed one drops the lines after its checkpoint, so that no step is in
    it twice. An evaluation before any training leaves no file.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        path = Path(args.output_dir) / METRICS_FILE
        kept = [
            entry
            for entry in read_metrics(path)
            if isinstance(entry.get("step"), int) and entry["step"] <= state.global_step
        ]
        kept = kept if state.global_step else []
        with atomic_file(path, TrainingError) as stream:
            stream.write("".join(_line(entry) for entry in kept).encode())
        self._path = path

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        if self._path is None:
            return
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(_line(context["logs"]))
        except OSError as problem:
            raise TrainingError(
                f"{self._path}: cannot be written ({problem.strerror or problem}); free some space and "
                "resume from the latest checkpoint"
            ) from problem


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
