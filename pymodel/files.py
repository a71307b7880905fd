"""Files that are either the old ones or the new ones, never half of either."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pymodel.errors import PymodelError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], error: type[PymodelError]) -> Iterator[BinaryIO]:
    """Opens a binary file for writing that takes its name only once every byte is on the disk.

    The bytes go to a hidden neighbour, are synced and then renamed over `path`. Whatever ends the
    block early (a full disk, Ctrl-C, an exception) removes the neighbour and leaves an earlier
    `path` as it was.

    Args:
        path: the file to write; its folder is made when missing.
        error: what an `OSError` of the writing becomes.

    Yields: the open stream, seekable.

    Raises: `error` when the folder or the file cannot be written, with the system's reason.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise error(
            f"{path}: cannot be written ({reason}); free some space or choose another folder, "
            "an earlier file of that name is unchanged"
        ) from problem
    finally:
        # After the rename there is nothing left to remove; before it, the half-written neighbour goes.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable; some file systems refuse this, and then the kernel does it later."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
