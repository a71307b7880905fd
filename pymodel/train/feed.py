"""The stream of batches behind a training run, whatever the dataset is, with a position to come back to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.train.examples import ExampleBatches

Dataset: TypeAlias = "Iterable[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]]"


def is_examples(dataset: Any) -> bool:
    """Whether a dataset is a sequence of single examples, not of ready batches.

    An example's `input_ids` has one dimension, a batch's has two.
    """
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")) or len(dataset) == 0:
        return False
    first = dataset[0]
    return isinstance(first, Mapping) and "input_ids" in first and np.ndim(first["input_ids"]) == 1


class TrainingFeed:
    """Hands out batches for as long as there are any, and knows where it is.

    Args:
        dataset: ready batches (an iterable with `state_dict` and `load_state_dict`, a plain iterable that can
            be gone through again, or an iterator that ends for good), or a sequence of examples.
        batch_size: for examples; batches bring their own size.
        seed: of the order of examples.
        pad_token_id: fills examples up.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int, pad_token_id: int = 0) -> None:
        self._dataset = (
            ExampleBatches(dataset, batch_size, seed, pad_token_id=pad_token_id)
            if is_examples(dataset)
            else dataset
        )
        if not isinstance(self._dataset, Iterable):
            raise ConfigError(
                f"train_dataset: expected an iterable of batches or a sequence of examples, got "
                f"{type(dataset).__name__}"
            )
        self._iterator: Iterator[Mapping[str, Any]] | None = None
        self._taken = 0

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches in an epoch, None when the dataset does not tell."""
        return len(self._dataset) if hasattr(self._dataset, "__len__") else None

    @property
    def batches_taken(self) -> int:
        """Batches handed out since the start of the run."""
        return self._taken

    def take(self, count: int) -> list[Mapping[str, Any]]:
        """The next batches: `count` of them, fewer or none when the data is used up for good.

        Raises:
            DataError: the dataset holds no batch at all.
        """
        batches: list[Mapping[str, Any]] = []
        while len(batches) < count:
            if self._iterator is None:
                self._iterator = iter(self._dataset)
            batch = next(self._iterator, None)
            if batch is not None:
                batches.append(batch)
                self._taken += 1
            elif self._taken == 0:
                raise DataError("train_dataset: expected batches, got none; check the data")
            elif self._iterator is self._dataset:
                break  # an iterator gives its items once
            else:
                self._iterator = None
        return batches

    def state_dict(self) -> dict[str, Any]:
        """The position: the dataset's own if it has one, and the number of batches taken."""
        own = self._dataset.state_dict() if hasattr(self._dataset, "state_dict") else None
        return {"batches_taken": self._taken, "dataset": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state_dict` was taken; a dataset without a position of its own is replayed.

        Raises:
            CheckpointError: the position does not fit this dataset.
        """
        if hasattr(self._dataset, "load_state_dict"):
            if state.get("dataset") is None:
                raise CheckpointError(
                    "data position: the checkpoint was made with a dataset that does not tell its position; "
                    "resume with that one"
                )
            self._dataset.load_state_dict(state["dataset"])
            self._taken = int(state["batches_taken"])
            return
        wanted = int(state["batches_taken"])
        if len(self.take(wanted)) < wanted:
            raise CheckpointError(
                f"data position: the checkpoint has seen {wanted} batches, the dataset ends before that; "
                "resume with the same data"
            )


def evaluation_batches(dataset: Any, batch_size: int, pad_token_id: int = 0) -> Iterable[Mapping[str, Any]]:
    """Each batch of an evaluation dataset once: a list, a function giving an iterator, or examples."""
    if callable(dataset):
        fresh: Iterable[Mapping[str, Any]] = dataset()
        return fresh
    if is_examples(dataset):
        return ExampleBatches(dataset, batch_size, pad_token_id=pad_token_id).one_epoch()
    if isinstance(dataset, Iterator):
        raise ConfigError(
            "eval_dataset: expected batches that can be gone through again, got an iterator, which gives "
            "them once; pass a list, or a function that returns a fresh iterator"
        )
    if not isinstance(dataset, Iterable):
        raise ConfigError(f"eval_dataset: expected an iterable of batches, got {type(dataset).__name__}")
    return dataset
