"""Batches from a list of examples, in an order that can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from pymodel.errors import CheckpointError, DataError

Batch: TypeAlias = "dict[str, np.ndarray[Any, Any]]"

IGNORED_LABEL = -100


def pad_examples(examples: Sequence[Mapping[str, Any]], pad_token_id: int = 0) -> Batch:
    """Lays examples of unequal lengths side by side, filled up on the right.

    Args:
        examples: B mappings with `input_ids`, a sequence of ints, and perhaps `labels` of the same length;
            without them the labels are the input ids.
        pad_token_id: fills `input_ids`; `labels` are filled with -100, which no loss counts.

    Returns:
        `input_ids`, `labels` and `attention_mask` (1 for real tokens), (B, longest) int64.

    Raises:
        DataError: an example without input_ids, or with labels of another length.
    """
    rows = [_ids_and_labels(example) for example in examples]
    longest = max((len(ids) for ids, _ in rows), default=0)
    batch = {
        "input_ids": np.full((len(rows), longest), pad_token_id, np.int64),
        "labels": np.full((len(rows), longest), IGNORED_LABEL, np.int64),
        "attention_mask": np.zeros((len(rows), longest), np.int64),
    }
    for row, (ids, labels) in enumerate(rows):
        batch["input_ids"][row, : len(ids)] = ids
        batch["labels"][row, : len(labels)] = labels
        batch["attention_mask"][row, : len(ids)] = 1
    return batch


def _ids_and_labels(example: Mapping[str, Any]) -> tuple[Any, Any]:
    if "input_ids" not in example:
        raise DataError(f"example: expected the key input_ids, got {', '.join(example) or 'none'}")
    ids = example["input_ids"]
    labels = example.get("labels")
    labels = ids if labels is None else labels
    if len(labels) != len(ids):
        raise DataError(f"example: expected as many labels as input_ids, got {len(labels)} for {len(ids)}")
    return ids, labels


class ExampleBatches:
    """An endless iterator over padded batches of examples, epoch after epoch.

    The order of an epoch comes from Philox keyed on (seed, epoch): any position is found again without
    replaying what went before.

    Args:
        examples: a sequence of mappings as `pad_examples` takes them.
        batch_size: examples in a batch; the last one of an epoch may have fewer.
        seed: of the order.
        shuffle: False keeps the order of the sequence.
        pad_token_id: see `pad_examples`.

    Raises:
        DataError: there are no examples.
    """

    def __init__(
        self,
        examples: Sequence[Mapping[str, Any]],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        pad_token_id: int = 0,
    ) -> None:
        if len(examples) == 0:
            raise DataError("dataset: expected one example or more, got none")
        self._examples, self._pad_token_id = examples, pad_token_id
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self._epoch = self._batch = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._examples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        order = self._order()
        chosen = order[self._batch * self.batch_size : (self._batch + 1) * self.batch_size]
        self._batch += 1
        if self._batch == len(self):
            self._epoch, self._batch = self._epoch + 1, 0
        return pad_examples([self._examples[int(index)] for index in chosen], self._pad_token_id)

    def one_epoch(self) -> Iterator[Batch]:
        """A fresh iterator over each example once, in order."""
        for start in range(0, len(self._examples), self.batch_size):
            stop = min(start + self.batch_size, len(self._examples))
            yield pad_examples([self._examples[index] for index in range(start, stop)], self._pad_token_id)

    def _order(self) -> np.ndarray[Any, Any]:
        if not self.shuffle:
            return np.arange(len(self._examples))
        # Raw Philox output and a stable sort: NumPy may change what its Generator methods draw.
        philox = np.random.Philox(key=np.array([self.seed, self._epoch], np.uint64))
        return np.argsort(philox.random_raw(len(self._examples)), kind="stable")

    def state_dict(self) -> dict[str, int | bool]:
        """Where the next batch is."""
        return {"epoch": self._epoch, "batch": self._batch} | self._conditions()

    def load_state_dict(self, state: dict[str, int | bool]) -> None:
        """Goes to where `state_dict` was taken.

        Raises:
            CheckpointError: the state is of other data or settings.
        """
        for name, value in self._conditions().items():
            if state.get(name) != value:
                raise CheckpointError(
                    f"data position: the checkpoint has {name} {state.get(name)!r}, this run has {value!r}; "
                    "resume with the same data and settings or start anew"
                )
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])

    def _conditions(self) -> dict[str, int | bool]:
        return {
            "example_count": len(self._examples),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
        }
