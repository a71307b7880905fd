"""Which peers this machine has, and how many threads they take."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from pymodel.errors import ConfigError

MISSING = "pip install 'pymodel-lm[bench]' brings it"
PEERS = {
    "torch": "its kernels, fused AdamW, training steps of GPT-2 and of a classifier",
    "openblas": "the float32 products of NumPy",
    "transformers": "encoders, and generation with a cache of keys and values",
    "llm.c": "a GPT-2 124M training step; needs --llm-c",
}


def choose(names: Iterable[str] | None, llm_c: Path | None) -> frozenset[str]:
    """The peers to measure against.

    Args:
        names: as given; None for all that are installed.
        llm_c: a checkout of llm.c in which `make train_gpt2` has run.

    Raises: ConfigError for a name that is unknown or not installed.
    """
    reasons = {name: why_absent(name, llm_c) for name in (PEERS if names is None else names)}
    if names is not None:
        for name, reason in reasons.items():
            if reason:
                raise ConfigError(f"--against {name}: {reason}")
    return frozenset(name for name, reason in reasons.items() if not reason)


def why_absent(name: str, llm_c: Path | None) -> str | None:
    """Why this peer cannot be measured; None when it can."""
    if name not in PEERS:
        return f"unknown peer; expected {', '.join(PEERS)}"
    if name == "llm.c":
        return _why_no_llm_c(llm_c)
    if name == "openblas":
        return _why_no_openblas()
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed; {MISSING}"
    return why_absent("torch", None) if name == "transformers" else None


def _why_no_llm_c(folder: Path | None) -> str | None:
    if folder is None:
        return "say where it is: --llm-c PATH, a checkout in which `make train_gpt2` has run"
    program = folder / "train_gpt2"
    return None if program.is_file() else f"there is no {program}; run `make train_gpt2` in {folder}"


def _why_no_openblas() -> str | None:
    if importlib.util.find_spec("threadpoolctl") is None:
        return f"its threads cannot be set without threadpoolctl; {MISSING}"
    import numpy  # noqa: F401 - loads its library
    import threadpoolctl

    found = {library["internal_api"] for library in threadpoolctl.threadpool_info()}
    return None if "openblas" in found else "this NumPy multiplies with another library"


def set_threads(peers: frozenset[str], threads: int) -> None:
    """Gives every peer in this process the threads that we have."""
    if "torch" in peers or "transformers" in peers:
        import torch

        torch.set_num_threads(threads)
    if "openblas" in peers:
        import threadpoolctl

        threadpoolctl.threadpool_limits(threads, user_api="blas")
