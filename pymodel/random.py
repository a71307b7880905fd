"""Seeded randomness that is the same on every device.

All random numbers come from Philox (csrc/core/philox.h): a draw is a pure function of the seed, the
number of the call (its offset) and the index of the element. The state is thus two integers.
"""

from __future__ import annotations

_state = {"seed": 0, "offset": 0}


def manual_seed(seed: int) -> None:
    """Starts the global generator anew: later draws depend on this seed alone."""
    _state["seed"] = int(seed) & 0xFFFFFFFFFFFFFFFF
    _state["offset"] = 0


def initial_seed() -> int:
    """The seed in use."""
    return _state["seed"]


def next_offset() -> tuple[int, int]:
    """Claims the (seed, offset) of one random operation."""
    _state["offset"] += 1
    return _state["seed"], _state["offset"] - 1


def get_rng_state() -> dict[str, int]:
    """What `set_rng_state` needs to continue exactly from here."""
    return dict(_state)


def set_rng_state(state: dict[str, int]) -> None:
    """Continues from a state that `get_rng_state` gave."""
    _state["seed"], _state["offset"] = int(state["seed"]), int(state["offset"])
