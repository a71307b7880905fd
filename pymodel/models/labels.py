"""The classes that a classifier tells apart, as a configuration names them."""

from __future__ import annotations

from typing import Any

from pymodel.errors import ConfigError

DEFAULT_COUNT = 2  # of classes, where a configuration says nothing


def default_labels(count: Any) -> dict[int, str]:
    """transformers' names of classes that nobody named: LABEL_0, LABEL_1 and so on."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"num_labels must be an integer of at least 1, got {count!r}")
    return {label: f"LABEL_{label}" for label in range(count)}


def read_labels(num_labels: int | None, id2label: Any, label2id: Any) -> dict[int, str]:
    """The name of every class by its number, from what a `config.json` says.

    Args:
        num_labels: how many there are; names for another number of them are then forgotten, as
            transformers does, since from_pretrained(..., num_labels=3) means a new head.
        id2label: names by number, whose keys JSON makes strings, or None.
        label2id: the numbers by name, used when `id2label` is None.

    Raises: ConfigError for what is no such mapping, or leaves numbers out.
    """
    if id2label is None and label2id is not None:
        id2label = {label: name for name, label in _mapping(label2id, "label2id").items()}
    if id2label is None:
        return default_labels(DEFAULT_COUNT if num_labels is None else num_labels)
    pairs = _mapping(id2label, "id2label")
    try:
        names = {int(label): str(name) for label, name in pairs.items()}
    except (TypeError, ValueError):
        raise ConfigError(f"id2label must name classes by their number, got {id2label!r}") from None
    if num_labels is not None and num_labels != len(names):
        return default_labels(num_labels)
    if not names or set(names) != set(range(len(names))):
        raise ConfigError(f"id2label must number the classes from 0 without a gap, got {sorted(names)}")
    return {label: names[label] for label in sorted(names)}


def _mapping(value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a JSON object, got {value!r}")
    return value
