"""The built-in corpus: the source of the standard library that every Python carries."""

import os
import sysconfig
from pathlib import Path

from pymodel.errors import DataError

# Tests, installed packages and what the build of this one interpreter wrote: the rest is nearly the same
# text on every machine with that version of Python.
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_BUILD_FOLDER = "config-"
_BUILD_FILES = ("_sysconfigdata", "_sysconfig_vars")


def standard_library_root() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def standard_library_files() -> list[Path]:
    """The `.py` files of the standard library without its tests, sorted by path; about 11 MB.

    Raises:
        DataError: this interpreter comes without sources (some ship them compiled or zipped).
    """
    root = standard_library_root()
    found: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [
            name for name in subfolders if name not in _LEFT_OUT and not name.startswith(_BUILD_FOLDER)
        ]
        found += [
            Path(folder, name) for name in names if name.endswith(".py") and not name.startswith(_BUILD_FILES)
        ]
    if not found:
        raise DataError(f"{root}: this Python comes without its sources; name a text file or folder instead")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
