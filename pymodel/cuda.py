"""GPUs: what there is, streams, events, and graphs of recorded work.

Every function that takes a `device` means the first GPU without one. Work is put into the current
stream of the calling thread, at first the default stream, and done in its order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pymodel import _core
from pymodel.device import empty_cache as _empty_cache
from pymodel.device import memory_stats as _memory_stats
from pymodel.device import reset_peak_memory as _reset_peak_memory
from pymodel.device import synchronize as _synchronize

_FIRST = "cuda"

# -- what there is ----------------------------------------------------------------------------------


def is_available() -> bool:
    """Whether tensors can live on a GPU here."""
    return device_count() > 0


def device_count() -> int:
    """GPUs that this build can use on this machine."""
    return _core.device_count("cuda")


def why_unavailable() -> str:
    """Why no GPU can be used and what to do about it; empty when one can."""
    return _core.why_unavailable("cuda")


def get_device_name(device: str = _FIRST) -> str:
    """The product's name, such as "NVIDIA H200"."""
    return _core.device_title(device)


def get_device_capability(device: str = _FIRST) -> tuple[int, int]:
    """The compute capability: (9, 0) for Hopper."""
    return _core.device_capability(device)


# -- memory and waiting -----------------------------------------------------------------------------


def synchronize(device: str = _FIRST) -> None:
    """As `pymodel.synchronize`."""
    _synchronize(device)


def memory_stats(device: str = _FIRST) -> dict[str, int]:
    """As `pymodel.memory_stats`."""
    return _memory_stats(device)


def mem_get_info(device: str = _FIRST) -> tuple[int, int]:
    """The free and the total bytes of a device."""
    stats = _memory_stats(device)
    return stats["free"], stats["total"]


def reset_peak_memory(device: str = _FIRST) -> None:
    """As `pymodel.reset_peak_memory`."""
    _reset_peak_memory(device)


def empty_cache(device: str = _FIRST) -> None:
    """As `pymodel.empty_cache`."""
    _empty_cache(device)


# -- streams ----------------------------------------------------------------------------------------


class Stream:
    """An ordered queue of work on a device.

    Args:
        device: where.
        handle: the `cudaStream_t` of a stream that another library made, as an integer, so that
            kernels run in its order (torch: `stream.cuda_stream`). It must outlive the tensors that
            are made in it. Without it the stream is a new one.
    """

    def __init__(self, device: str = _FIRST, handle: int | None = None) -> None:
        self._stream = _core.Stream(device, handle)

    @property
    def device(self) -> str:
        """The device it belongs to."""
        return self._stream.device

    @property
    def handle(self) -> int:
        """The `cudaStream_t` as an integer, for other libraries; 0 is the default stream."""
        return self._stream.handle

    def wait_stream(self, other: Stream) -> None:
        """Makes work that comes into this stream wait for what is in the other now; the host goes on."""
        self._stream.wait_for(other._stream)

    def synchronize(self) -> None:
        """Waits until all work in the stream is done."""
        self._stream.synchronize()

    def __repr__(self) -> str:
        return f"Stream(device={self.device!r}, handle={self.handle:#x})"


def current_stream(device: str = _FIRST) -> Stream:
    """The stream that work of this thread goes into."""
    return Stream(device, _core.current_stream(device))


@contextlib.contextmanager
def stream(stream: Stream) -> Iterator[Stream]:
    """Puts work of this thread into a stream.

    The first work in the block waits for what was given before it, and work after the block for that
    in it, so a tensor may be made outside and used inside, or the other way round.
    """
    before = current_stream(stream.device)
    stream.wait_stream(before)
    _core.exchange_stream(stream.device, stream.handle)
    try:
        yield stream
    finally:
        _core.exchange_stream(stream.device, before.handle)
        before.wait_stream(stream)


class Event:
    """A point in a stream that others can wait for, and that can be timed."""

    def __init__(self, device: str = _FIRST) -> None:
        self._event = _core.Event(device)

    def record(self) -> None:
        """Sets the event behind the work that is in the current stream now."""
        self._event.record()

    def wait(self) -> None:
        """Makes later work of the current stream wait for the event; the host goes on."""
        self._event.wait()

    def synchronize(self) -> None:
        """Waits until the event is reached."""
        self._event.synchronize()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to a later one; both must have been reached."""
        return self._event.elapsed_ms(end._event)


# -- graphs -----------------------------------------------------------------------------------------


class Graph:
    """Work that was recorded once and is given to the device in one go, any number of times.

    A replay runs the same kernels on the same memory with the same numbers: new values come in by
    writing into the tensors that the recorded work reads. Results lie in the tensors that it made;
    their memory belongs to the graph as long as it lives.
    """

    def __init__(self, device: str = _FIRST) -> None:
        self._graph = _core.Graph(device)
        self._stream = Stream(device)

    def replay(self) -> None:
        """Puts the recorded work into the current stream."""
        self._graph.replay()

    def reset(self) -> None:
        """Forgets the recorded work and gives its memory back."""
        self._graph.reset()


@contextlib.contextmanager
def graph(graph: Graph) -> Iterator[Graph]:
    """Records the work given in the block into a graph instead of doing it.

    Nothing in the block may wait for the device (`numpy`, `item`) or copy from ordinary memory of the
    host. Numbers that the host draws or computes, such as dropout's seeds, are recorded as they are.
    """
    with stream(graph._stream):
        graph._graph.begin()
        try:
            yield graph
        except BaseException:
            with contextlib.suppress(Exception):  # what broke the recording is what to tell
                graph._graph.end()
            graph.reset()
            raise
        graph._graph.end()
