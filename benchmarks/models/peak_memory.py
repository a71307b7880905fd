"""A process of `bench_memory.py`: trains a few steps and prints the megabytes that it took at most."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 2  # the second finds the moments that the first made


def main() -> None:
    """Takes its task as JSON on the command line."""
    contender, sizes, batch, length, dtype, folder = json.loads(sys.argv[1])
    _import_benchmarks(Path(folder))
    from benchmarks.models.gpt2 import Sizes

    make = our_training if contender == "pymodel" else their_training
    # What a library loads when it is first used is not what a model needs.
    make(Sizes("first use", 1, 64, 2, 300), 2, 16, dtype)()
    before = most_resident()
    step = make(Sizes(*sizes), batch, length, dtype)
    for _ in range(STEPS):
        step()
    print((most_resident() - before) / 1024)


def most_resident() -> int:
    """Kilobytes, since this program was started: what getrusage says also knows the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def our_training(sizes: Any, batch: int, length: int, dtype: str) -> Callable[[], Any]:
    """A training step of a new model."""
    from benchmarks.models.bench_train import our_step
    from benchmarks.models.gpt2 import random_tokens
    from pymodel.models import GPT2LMHeadModel

    return our_step(GPT2LMHeadModel(sizes.config(), dtype=dtype), random_tokens(sizes, batch, length))


def their_training(sizes: Any, batch: int, length: int, dtype: str) -> Callable[[], Any]:
    """The same with transformers' model and torch."""
    import transformers

    from benchmarks.models.bench_train import OPTIONS
    from benchmarks.models.gpt2 import random_tokens
    from benchmarks.peers.torch_gpt2 import training_step

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes.config().to_dict()))
    return training_step(model, random_tokens(sizes, batch, length), dtype, OPTIONS)


def _import_benchmarks(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    main()
