"""The work behind `pymodel fill-mask`."""

from __future__ import annotations

import dataclasses
import json
import sys

from pymodel.cli.devices import choose_device
from pymodel.cli.fill_mask import FillMaskOptions
from pymodel.inference import FillMask


def fill(options: FillMaskOptions) -> None:
    """Prints the likeliest words of every gap."""
    text = sys.stdin.read().rstrip("\n") if options.text == "-" else options.text
    filler = FillMask.from_pretrained(options.model, options.dtype, choose_device(options.device))
    gaps = filler(text, options.top_k)
    for number, fillings in enumerate(gaps, 1):
        if options.json:
            print(json.dumps([dataclasses.asdict(filling) for filling in fillings], ensure_ascii=False))
            continue
        if len(gaps) > 1:
            print(f"gap {number}")
        width = max(len(filling.token_str) for filling in fillings)
        for filling in fillings:
            # Where there are several gaps, a text with only one of them filled reads like a mistake.
            sequence = f"   {filling.sequence}" if len(gaps) == 1 else ""
            print(f"{filling.score:8.4f}   {filling.token_str:<{width}}{sequence}".rstrip())
