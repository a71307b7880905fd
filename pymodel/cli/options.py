"""From a dataclass to flags, with a YAML file of the same names beneath them."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from pymodel.errors import ConfigError

Options = TypeVar("Options")


def parse(kind: type[Options], command: str, description: str, words: Sequence[str]) -> Options:
    """The options of a command; `--help` and mistyped flags end the program.

    Args:
        kind: a dataclass, its fields the flags. With a field `config`, a YAML file gives values that flags
            override.
        command: its name.
        description: what `--help` says above the flags.
        words: the command line after the command's name.

    Raises:
        ConfigError: the YAML file cannot be read, or holds what is no option.
    """
    words = list(words)
    file = _config_file(words) if any(field.name == "config" for field in dataclasses.fields(kind)) else None  # type: ignore[arg-type]
    given = _words_of_file(kind, Path(file)) if file else []
    # The later one of two equal flags counts, so those of the command line come last.
    return tyro.cli(kind, prog=f"pymodel {command}", description=description, args=[*given, *words])


def _config_file(words: Sequence[str]) -> str | None:
    for index, word in enumerate(words):
        if word == "--config" and index + 1 < len(words):
            return words[index + 1]
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None


def _words_of_file(kind: type[Any], path: Path) -> list[str]:
    """The content of a YAML file as flags, so that both are checked and converted by the same rules."""
    types = {field.name: str(field.type) for field in dataclasses.fields(kind) if field.name != "config"}
    words: list[str] = []
    for key, value in _read(path).items():
        name = str(key).replace("-", "_")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(types)}"
            raise ConfigError(f"{path}: unknown key {str(key)!r}; {hint}")
        if value is None:  # `name:` with nothing behind it leaves the default
            continue
        flag = name.replace("_", "-")
        if types[name] == "bool":
            if not isinstance(value, bool):
                raise ConfigError(f"{path}: {key} must be true or false, got {value!r}")
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list) and types[name].startswith("tuple"):
            words += [f"--{flag}", *(_word(path, key, item) for item in value)]
        else:  # where a list is wanted, one value stands for a list of one
            words.append(f"--{flag}={_word(path, key, value)}")
    return words


def _word(path: Path, key: object, value: object) -> str:
    if isinstance(value, (dict, list)):
        raise ConfigError(f"{path}: {key} must be a single value, got a {type(value).__name__}")
    return str(value)


def _read(path: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror}); check --config") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: expected YAML in UTF-8, got other bytes; check --config") from problem
    except yaml.YAMLError as problem:
        reason = " ".join(str(problem).split())
        raise ConfigError(f"{path}: not YAML ({reason}); write one `name: value` a line") from problem
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected `name: value` lines, got a {type(content).__name__}")
    return content


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as a user would type it: relative when it lies below the current folder."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
