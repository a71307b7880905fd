"""A process of `bench_memory.py`: trains a few steps and prints the megabytes that it took at most."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 3


def main() -> None:
    """Takes its task as JSON on the command line."""
    contender, sizes, batch, length, dtype, folder = json.loads(sys.argv[1])
    _import_benchmarks(Path(folder))
    train = ours if contender == "pymodel" else theirs
    before, step = train(sizes, batch, length, dtype)
    for _ in range(STEPS):
        step()
    print((most_resident() - before) / 1024)


def most_resident() -> int:
    """Kilobytes, since this program was started: what getrusage says also knows the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def ours(sizes: list[Any], batch: int, length: int, dtype: str) -> tuple[int, Callable[[], Any]]:
    """(kilobytes before the model was made, a training step)."""
    from benchmarks.models.bench_train import our_step
    from benchmarks.models.gpt2 import Sizes, random_tokens
    from pymodel.models import GPT2LMHeadModel

    chosen = Sizes(*sizes)
    before = most_resident()
    model = GPT2LMHeadModel(chosen.config(), dtype=dtype)
    return before, our_step(model, random_tokens(chosen, batch, length))


def theirs(sizes: list[Any], batch: int, length: int, dtype: str) -> tuple[int, Callable[[], Any]]:
    """The same with transformers' model and torch."""
    import transformers

    from benchmarks.models.bench_train import OPTIONS
    from benchmarks.models.gpt2 import Sizes, random_tokens
    from benchmarks.peers.torch_gpt2 import training_step

    chosen = Sizes(*sizes)
    config = transformers.GPT2Config(**chosen.config().to_dict())
    before = most_resident()
    model = transformers.GPT2LMHeadModel(config)
    return before, training_step(model, random_tokens(chosen, batch, length), dtype, OPTIONS)


def _import_benchmarks(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    main()
