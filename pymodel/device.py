"""Devices, threads and memory of this machine."""

from __future__ import annotations

import threading

from pymodel import _core


class device(str):
    """Where a tensor lives: `device("cpu")`, `device("cuda")` (the first GPU) or `device("cuda:1")`.

    A string with the parts split out, so `x.device == "cpu"` is a plain comparison. As a context it
    is where new tensors and parameters go, in this thread:

        with pymodel.device("cuda"):
            model = GPT2LMHeadModel(config)

    In builds for tests there is also "simt", an emulator that runs the CUDA kernels on the CPU.

    Attributes: `type`, the part before the colon, and `index`, the number after it (0 without one).

    Raises `DeviceError`, saying why, for a device that this build or this machine does not have.
    """

    type: str
    index: int  # type: ignore[assignment]  # torch's name; hides str.index

    def __new__(cls, name: str = "cpu") -> device:
        canonical = _core.check_device(name)
        self = _known.get(canonical)
        if self is None:
            self = super().__new__(cls, canonical)
            self.type, _, index = canonical.partition(":")
            self.index = int(index or 0)
            _known[canonical] = self
        return self

    def __eq__(self, other: object) -> bool:
        """Equal to its own name; the first device also to the one with its number: "cuda:0"."""
        return str.__eq__(self, other) or (isinstance(other, str) and f"{self}:0" == str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __enter__(self) -> device:
        _default.before.append(_default.device)
        _default.device = self
        return self

    def __exit__(self, *exception: object) -> None:
        _default.device = _default.before.pop()


_known: dict[str, device] = {}
CPU = device("cpu")


def known_device(name: str) -> device:
    """The device of a name that an array gave."""
    return _known.get(name) or device(name)


# -- where new tensors go ---------------------------------------------------------------------------


class _Default(threading.local):
    device = CPU

    def __init__(self) -> None:
        self.before: list[device] = []  # one entry per `with` block that the thread is in


_default = _Default()


def get_default_device() -> device:
    """Where tensors go that are made without `device`, in this thread; the CPU at first."""
    return _default.device


def set_default_device(name: str) -> None:
    """Makes new tensors and parameters go to a device, in this thread, unless they name another.

    Raises: DeviceError for a device that is not there.
    """
    _default.device = device(name)


# -- what a device is good at -------------------------------------------------------------------------


def training_dtype(name: str = "cpu") -> str:
    """The dtype to train in on a device: "bfloat16" where it multiplies that faster than float32.

    That is every GPU with our kernels, and processors with AVX-512 BF16 or AMX. Products are summed in
    float32 and optimizers keep float32 master weights, so losses follow those of float32 closely.
    """
    where = device(name)
    native = where.type == "cuda" or (where.type == "cpu" and _core.isa().endswith("bf16"))
    return "bfloat16" if native else "float32"


# -- threads ----------------------------------------------------------------------------------------


def get_num_threads() -> int:
    """Threads that CPU kernels run on; at first what OMP_NUM_THREADS says, or all cores."""
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Sets the threads of CPU kernels. Results do not depend on it, to the bit."""
    _core.set_num_threads(count)


# -- memory and waiting -----------------------------------------------------------------------------


def memory_stats(device: str = "cpu") -> dict[str, int]:
    """Bytes of tensor memory: `in_use` and `peak_in_use`, and what the kind of device adds to them.

    Of the CPU: `cached` for reuse, and the number of `system_allocations`, which stands still once a
    training loop is warm. Of a GPU: `reserved` by this process, in use or kept for reuse, and the
    `free` and `total` bytes of the device.
    """
    return _core.memory_stats(device)


def reset_peak_memory(device: str = "cpu") -> None:
    """Starts `peak_in_use` anew from what is in use now."""
    _core.reset_peak_memory(device)


def empty_cache(device: str = "cpu") -> None:
    """Returns memory that is kept for reuse to the operating system, or to other programs on a GPU."""
    _core.empty_cache(device)


def synchronize(device: str | None = None) -> None:
    """Waits until all work given to a device, by default the default one, is done.

    Raises: what that work could not raise when it was given, such as ValueError for a target of
    cross_entropy that is no class.
    """
    _core.synchronize(device or _default.device)
