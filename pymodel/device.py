"""Devices, threads and memory of this machine."""

from __future__ import annotations

from pymodel import _core


class device(str):
    """Where a tensor lives: `device("cpu")`.

    A string with the parts split out, so `x.device == "cpu"` is a plain comparison.

    Attributes: `type`, the part before the colon, and `index`, the number after it (0 without one).

    Raises `DeviceError` for a device that this build or this machine does not have.
    """

    type: str
    index: int  # type: ignore[assignment]  # torch's name; hides str.index

    def __new__(cls, name: str = "cpu") -> device:
        self = super().__new__(cls, _core.check_device(name))
        self.type, _, index = str(self).partition(":")
        self.index = int(index or 0)
        return self

    def __repr__(self) -> str:
        return f"device({str(self)!r})"


CPU = device("cpu")


def get_num_threads() -> int:
    """Threads that CPU kernels run on; at first what OMP_NUM_THREADS says, or all cores."""
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Sets the threads of CPU kernels. Results do not depend on it, to the bit."""
    _core.set_num_threads(count)


def memory_stats() -> dict[str, int]:
    """Bytes of tensor memory: `in_use`, `peak_in_use`, `cached` for reuse, and the number of
    `system_allocations`, which stands still once a training loop is warm."""
    return _core.memory_stats()


def reset_peak_memory() -> None:
    """Starts `peak_in_use` anew from what is in use now."""
    _core.reset_peak_memory()


def empty_cache() -> None:
    """Returns memory that is kept for reuse to the operating system."""
    _core.empty_cache()
