"""Checkpoint folders: written whole or not at all, found again, and thinned out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymodel.errors import CheckpointError

STATE_FILE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_LEFTOVERS = (".checkpoint-*.writing", ".checkpoint-*.deleting")


def checkpoints(output_dir: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """The (step, folder) of every checkpoint in a run's folder, oldest first."""
    folder = Path(output_dir)
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match.group(1)), path) for match, path in found if (path / STATE_FILE).is_file())


def latest_checkpoint(output_dir: str | os.PathLike[str]) -> Path | None:
    """The checkpoint of the highest step in a run's folder, None when there is none."""
    found = checkpoints(output_dir)
    return found[-1][1] if found else None


def choose_checkpoint(
    output_dir: str | os.PathLike[str], resume: bool | str | os.PathLike[str] | None
) -> Path | None:
    """The checkpoint that a run starts from.

    Args:
        output_dir: the run's folder.
        resume: None or False starts anew; True takes the latest checkpoint and "auto" does when there is one;
            anything else is the folder of a checkpoint.

    Raises:
        CheckpointError: what was asked for is not there.
    """
    if resume is None or resume is False:
        return None
    if resume is True or resume == "auto":
        latest = latest_checkpoint(output_dir)
        if latest is None and resume is True:
            raise CheckpointError(f"{output_dir}: no checkpoint to resume from; start without resuming")
        return latest
    folder = Path(resume)
    if not (folder / STATE_FILE).is_file():
        reason = f"no {STATE_FILE} in it" if folder.is_dir() else "no such folder"
        raise CheckpointError(f'{folder}: {reason}; name a checkpoint-N folder, or resume with "auto"')
    return folder


@contextlib.contextmanager
def new_checkpoint(output_dir: str | os.PathLike[str], step: int) -> Iterator[Path]:
    """A folder to write a checkpoint into, which becomes `checkpoint-<step>` once all of it is on the disk.

    Whatever ends the block early (a full disk, an exception) removes the folder and leaves earlier
    checkpoints as they were; a kill leaves a hidden folder that `remove_leftovers` takes away.

    Raises:
        CheckpointError: the folder or a file in it cannot be written.
    """
    final = Path(output_dir) / f"checkpoint-{step}"
    temporary = final.with_name(f".{final.name}.writing")
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        _remove(final)
        os.rename(temporary, final)
        _sync(final.parent)
    except (OSError, CheckpointError) as problem:
        # What wrote a single file named it by the folder's passing name: the user knows the final one.
        reason = problem if isinstance(problem, OSError) else problem.__cause__
        if not isinstance(reason, OSError):
            raise
        raise CheckpointError(
            f"{final}: cannot be written ({reason.strerror or reason}); free some space or choose another "
            "folder, earlier checkpoints are unchanged"
        ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def keep_newest(output_dir: str | os.PathLike[str], limit: int | None) -> None:
    """Deletes the oldest checkpoints beyond `limit`."""
    for _, folder in checkpoints(output_dir)[: -limit if limit else 0]:
        _remove(folder)


def remove_checkpoints(output_dir: str | os.PathLike[str]) -> None:
    """Deletes every checkpoint in a run's folder."""
    for _, folder in checkpoints(output_dir):
        _remove(folder)


def remove_leftovers(output_dir: str | os.PathLike[str]) -> None:
    """Deletes what a killed run left half-written or half-deleted."""
    for pattern in _LEFTOVERS:
        for path in Path(output_dir).glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Writes a small file of a checkpoint."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a small file of a checkpoint.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CheckpointError(
            f"{path}: missing or damaged ({problem}); resume from an earlier checkpoint"
        ) from problem


def _remove(folder: Path) -> None:
    """Deletes a checkpoint; it loses its name first, so that it is never seen half deleted."""
    if not folder.exists():
        return
    doomed = folder.with_name(f".{folder.name}.deleting")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
