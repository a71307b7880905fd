"""The work behind `pymodel classify`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from pymodel.cli.classify import ClassifyOptions
from pymodel.cli.devices import choose_device
from pymodel.cli.lines import pair_of, read_lines
from pymodel.errors import ConfigError
from pymodel.inference import Entity, EntityRecognition, LabelScore, load_classifier


def classify(options: ClassifyOptions) -> None:
    """Prints a line for each text."""
    if options.text is not None and options.input is not None:
        raise ConfigError("--text and --input: give one of them")
    if options.top_k is not None and options.top_k < 1:
        raise ConfigError(f"--top-k must be at least 1, got {options.top_k}")
    lines = [options.text] if options.text is not None else read_lines(options.input or "-")
    pairs = [pair_of(line, number) for number, line in enumerate(lines, 1)] if options.pairs else []
    model = load_classifier(options.model, options.dtype, choose_device(options.device))
    found: Sequence[Sequence[LabelScore | Entity]]
    if isinstance(model, EntityRecognition):
        if options.pairs or options.top_k is not None:
            raise ConfigError(
                f"{options.model}: classifies tokens; --pairs and --top-k are for classifiers of texts"
            )
        found = model(lines, options.batch_size)
    else:
        found = [scores[: options.top_k] for scores in model(pairs or lines, options.batch_size)]
    kind = "entities" if isinstance(model, EntityRecognition) else "labels"
    for line, items in zip(lines, found, strict=True):
        if options.json:
            content = {"text": line, kind: [dataclasses.asdict(item) for item in items]}
            print(json.dumps(content, ensure_ascii=False))
        else:
            print("\t".join([*map(_shown, items), line]))


def _shown(item: LabelScore | Entity) -> str:
    score = f"{item.label} {item.score:.4f}"
    return score if isinstance(item, LabelScore) else f"{score} {item.start}-{item.end} {item.text}"
