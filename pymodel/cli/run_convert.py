"""The work behind `pymodel convert`."""

from __future__ import annotations

from rich.console import Console

from pymodel.cli.convert import ConvertOptions
from pymodel.cli.options import shown_path
from pymodel.cli.output import say
from pymodel.models.convert import convert_folder


def convert(options: ConvertOptions) -> None:
    """Writes the new folder and says what is in it."""
    done = convert_folder(options.model, options.out, options.dtype, options.max_shard_size)
    files = "1 file" if done.files == 1 else f"{done.files} files"
    dtype = f", {options.dtype}" if options.dtype else ""
    say(
        Console(),
        f"{shown_path(options.out)}: {done.tensors} tensors, {done.nbytes / 1e6:,.1f} MB in {files}{dtype}",
    )
    if done.companions:
        say(Console(), f"copied: {', '.join(done.companions)}")
