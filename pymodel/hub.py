"""Model names to folders: a folder on this machine, or a repository of the Hugging Face hub.

`huggingface_hub` does the downloading, with its progress bars, its cache and its environment
variables (HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN); it is the extra `hub`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymodel.errors import CheckpointError

# What a model of ours is made of, and nothing of what a repository may hold for other libraries.
MODEL_FILES = ("*.json", "*.txt", "*.jinja", "model*.safetensors")
TOKENIZER_FILES = ("*.json", "*.txt", "*.jinja", "*.spm")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve_folder(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    patterns: Sequence[str] = MODEL_FILES,
) -> Path:
    """The folder that a model's name stands for.

    Args:
        name: a folder, or a repository of the hub such as "org/name", which is downloaded into the
            hub's cache unless it lies there already. A folder of that name comes first.
        revision: branch, tag or commit of a repository; its main branch when None.
        local_files_only: take a repository from the cache or not at all.
        patterns: which of a repository's files to fetch; other folders than the top one only by name.

    Returns: an existing folder.

    Raises: CheckpointError when there is no such folder, no such repository or revision, no
    permission or no connection; nothing is written then.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"name must be a folder or a repository of the hub, got {name!r}")
    folder = Path(name)
    if os.fspath(name) and folder.is_dir():
        return folder
    if isinstance(name, os.PathLike) or not _REPOSITORY.fullmatch(name) or folder.exists():
        raise CheckpointError(_no_such_folder(os.fspath(name)))
    try:
        hub = importlib.import_module("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise CheckpointError(
            f"{_no_such_folder(name)}; to fetch repositories of the hub: pip install 'pymodel-lm[hub]'"
        ) from None
    options = {"revision": revision, "local_files_only": local_files_only, "allow_patterns": list(patterns)}
    return _downloaded(hub, errors, str(name), options)


def _downloaded(hub: Any, errors: Any, name: str, options: dict[str, Any]) -> Path:
    try:
        nested = any("/" in pattern for pattern in options["allow_patterns"])
        return Path(hub.snapshot_download(name, ignore_patterns=None if nested else ["*/*"], **options))
    except errors.GatedRepoError:
        problem = (
            "cannot be read before its licence is accepted; accept it on its page and log in: hf auth login"
        )
    except errors.RepositoryNotFoundError:
        problem = (
            "no such folder here and no such repository on the hub; check the name, or log in: hf auth login"
        )
    except errors.RevisionNotFoundError:
        problem = "the hub has no such branch, tag or commit of it; check revision"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        problem = (
            "no such folder here, not in the hub's cache, and the hub was not asked or cannot be reached; "
            "check the connection, HF_HUB_OFFLINE and local_files_only"
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as reason:
        problem = f"cannot be fetched from the hub ({_first_line(reason)}); try again later"
    revision = options["revision"]
    raise CheckpointError(f"{name}: {f'revision {revision!r}: ' if revision else ''}{problem}")


def _no_such_folder(name: str) -> str:
    return (
        f"{name or repr(name)}: no such folder; name a model folder on this machine, "
        "or a repository of the hub such as 'org/name'"
    )


def _first_line(problem: Exception) -> str:
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else type(problem).__name__
