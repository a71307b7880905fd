"""What a model is given, checked once: token ids, labels, masks and positions as NumPy arrays.

They are small and live on the host; kernels get tensors made from them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np

from pymodel.models.cache import KeyValueCache
from pymodel.tensor import Tensor, from_dlpack, tensor

_HOST = (1, 0)  # the CPU, to DLPack
IGNORED = -100  # the label that counts in no loss, as in Hugging Face's models


def token_ids(values: Any, vocab_size: int, name: str = "input_ids") -> np.ndarray:
    """Token ids as an int64 array of (batch, sequence).

    Raises: TypeError for anything but integers; ValueError for another shape, ragged lists and ids
    that the vocabulary does not have.
    """
    ids = _integers(values, name)
    if ids.ndim != 2:
        raise ValueError(
            f"{name} must have shape (batch, sequence), got {ids.shape}; for one sequence pass [{name}]"
        )
    _check_range(ids, vocab_size, name)
    return ids


def target_ids(values: Any, vocab_size: int, name: str = "labels") -> np.ndarray:
    """What every position is to predict, as an int64 array of (batch, sequence), -100 where none counts.

    Raises: as `token_ids`.
    """
    labels = _integers(values, name)
    if labels.ndim != 2:
        raise ValueError(f"{name} must have shape (batch, sequence), got {labels.shape}")
    if outside(labels, vocab_size):  # mostly nothing is: -100 is the exception to look at closely
        _check_range(labels[labels != IGNORED], vocab_size, name, f" or {IGNORED}")
    return labels


def shifted_labels(labels: np.ndarray) -> np.ndarray:
    """The target of every position: the label one position on, and none for the last.

    Shifting the labels leaves the logits where they are; slicing those would copy them.

    Args:
        labels: (batch, sequence) int64, checked.
    """
    targets = np.empty_like(labels, order="C", subok=False)
    targets[:, :-1] = labels[:, 1:]
    targets[:, -1:] = IGNORED
    return targets


def token_labels(values: Any, shape: tuple[int, ...], vocab_size: int, name: str = "labels") -> np.ndarray:
    """`target_ids` that belong to input ids, of whose shape they must be.

    Args:
        values: (batch, sequence) token ids or -100.
        shape: of the input ids.

    Raises: as `token_ids`.
    """
    labels = target_ids(values, vocab_size, name)
    if labels.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of input_ids, got {labels.shape}")
    return labels


def class_labels(values: Any, shape: tuple[int, ...], classes: int, name: str = "labels") -> np.ndarray:
    """Classes as an int64 array, each a number below `classes` or -100.

    Raises: TypeError for anything but integers; ValueError for another shape and for classes that the
    model does not tell apart.
    """
    labels = _integers(values, name)
    if labels.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, one for each of them, got {labels.shape}")
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= classes))]
    if wrong.size:
        raise ValueError(
            f"{name} must lie between 0 and {classes - 1} or be -100, got {wrong[0]}; "
            "num_labels says how many classes there are"
        )
    return labels


def integers_per_token(values: Any, batch: int, sequence: int, limit: int, name: str) -> np.ndarray:
    """Numbers below `limit` for every token, int64, (batch, sequence) or (1, sequence) for all texts alike.

    Args:
        values: (batch, sequence), (1, sequence) or (sequence,).

    Raises: TypeError for anything but integers; ValueError for another shape or numbers out of range.
    """
    numbers = _integers(values, name)
    if numbers.shape not in ((batch, sequence), (1, sequence), (sequence,)):
        raise ValueError(f"{name} must have shape ({batch}, {sequence}), got {numbers.shape}")
    if outside(numbers, limit):
        wrong = int(numbers.min()) if numbers.min() < 0 else int(numbers.max())
        raise ValueError(f"{name} must lie between 0 and {limit - 1}, got {wrong}")
    return numbers[None] if numbers.ndim == 1 else numbers


def padding_is_unlabelled(targets: np.ndarray, attention_mask: Any) -> bool:
    """Whether no target lies where the mask has padding, so that nobody reads the results there."""
    mask = None if attention_mask is None else np.asarray(attention_mask)
    return mask is not None and mask.shape == targets.shape and bool((targets[mask == 0] == IGNORED).all())


def checked_mask(
    values: Any, batch: int, sequence: int, past: int = 0, name: str = "attention_mask"
) -> np.ndarray:
    """An attention mask as a bool array, true for tokens and false for padding.

    Args:
        values: (batch, sequence) or (batch, past + sequence), of 1 and 0.
        name: of the argument, for messages.

    Raises: ValueError for another shape or other values.
    """
    mask = host_array(values, name)
    if mask.shape not in ((batch, sequence), (batch, past + sequence)):
        wanted = f"({batch}, {sequence})" + (f" or ({batch}, {past + sequence})" if past else "")
        raise ValueError(f"{name} must have shape {wanted}, got {mask.shape}")
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{name} must hold 1 for tokens and 0 for padding, got other values")
    return mask.astype(bool)


@dataclasses.dataclass
class SequenceLayout:
    """Where the tokens of one call stand and which of them see each other.

    positions: (sequence,), or (batch, sequence) where rows differ.
    added: tokens per row that the cache keeps of this call, (batch,) or one number for all.
    query_lengths, key_lengths: (batch,) int64 on the model's device, or None where all are used.
    bias: (batch, 1, 1, keys) float32, added to the scores, 0 or -inf, or None.
    """

    positions: np.ndarray
    added: np.ndarray | int
    query_lengths: Tensor | None = None
    key_lengths: Tensor | None = None
    bias: Tensor | None = None


def sequence_layout(
    batch: int,
    sequence: int,
    attention_mask: Any = None,
    position_ids: Any = None,
    cache: KeyValueCache | None = None,
    *,
    padding_is_read: bool = True,
    device: str | None = None,
    mask_name: str = "attention_mask",
) -> SequenceLayout:
    """Turns Hugging Face's mask and positions into what the attention kernel takes.

    Padding on the right becomes lengths, with which the kernel skips it, wherever nobody reads
    what comes out at the padding: in a cache, which then packs the rows without it, and when
    `padding_is_read` is False. Every other mask becomes a bias on the keys.

    Args:
        attention_mask: (batch, sequence) or (batch, past + sequence), 1 for tokens and 0 for
            padding, or None.
        position_ids: (batch, sequence), (1, sequence) or (sequence,), or None to count on from the
            tokens in the cache.
        padding_is_read: whether the results at padded positions matter.
        device: of the model, where lengths and bias go once for all of its layers.
        mask_name: of the mask's argument, for messages.

    Raises: ValueError for shapes that do not fit, TypeError for other element types.
    """
    if cache is None and attention_mask is None:
        return SequenceLayout(_positions(position_ids, batch, sequence), sequence)
    past = 0 if cache is None else cache.get_seq_length()
    starts = np.zeros(batch, dtype=np.int64) if cache is None else cache.lengths
    if cache is not None and cache.batch != batch:
        raise ValueError(f"past_key_values holds {cache.batch} rows, input_ids {batch}; start a new cache")
    ragged = cache is not None and not cache.uniform
    layout = SequenceLayout(_positions(position_ids, batch, sequence, starts, ragged), sequence)
    counts = np.full(batch, sequence, dtype=np.int64)
    mask = None if attention_mask is None else checked_mask(attention_mask, batch, sequence, past, mask_name)
    if mask is not None and ragged:
        mask = mask[:, -sequence:]  # a packed cache holds no padding that a mask could name
    if mask is not None and not mask.all():
        lengths = mask.sum(axis=1)
        right_padded = (mask == (np.arange(mask.shape[1]) < lengths[:, None])).all()
        if ragged and not right_padded:
            raise ValueError(
                f"{mask_name}: rows of unequal length in the cache take padding on the right only"
            )
        if right_padded and mask.shape[1] == sequence and (cache is not None or not padding_is_read):
            counts = lengths
        else:
            bias = np.where(mask, 0.0, -np.inf).astype(np.float32)
            if mask.shape[1] < past + sequence:
                bias = np.pad(bias, ((0, 0), (past, 0)))
            layout.bias = tensor(bias[:, None, None, :], device=device)
    if ragged or (counts != sequence).any():
        layout.query_lengths = tensor(counts, device=device)
        layout.key_lengths = tensor(starts + counts, device=device)
        layout.added = counts
    return layout


def _positions(
    position_ids: Any, batch: int, sequence: int, starts: np.ndarray | None = None, ragged: bool = False
) -> np.ndarray:
    if position_ids is None:
        counting = np.arange(sequence, dtype=np.int64)
        if starts is None:
            return counting
        return starts[:, None] + counting if ragged else counting + int(starts.max(initial=0))
    positions = _integers(position_ids, "position_ids")
    if positions.shape not in ((batch, sequence), (1, sequence), (sequence,)):
        raise ValueError(f"position_ids must have shape ({batch}, {sequence}), got {positions.shape}")
    return positions[0] if positions.shape[0] == 1 and positions.ndim == 2 else positions


def host_array(values: Any, name: str) -> np.ndarray:
    """A tensor of any library, an array or nested lists as a NumPy array.

    Raises: ValueError for lists of unequal lengths.
    """
    if isinstance(values, Tensor):
        values = values.numpy()
    elif hasattr(values, "__dlpack__") and not isinstance(values, np.ndarray):
        values = _from_other_library(values)
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(
            f"{name}: the rows have unequal lengths; pad them and pass an attention_mask"
        ) from None


def _from_other_library(values: Any) -> np.ndarray:
    if values.__dlpack_device__() == _HOST:
        with contextlib.suppress(BufferError, RuntimeError):  # a dtype that NumPy itself lacks
            return np.from_dlpack(values)
    return from_dlpack(values).numpy()


def _integers(values: Any, name: str) -> np.ndarray:
    array = host_array(values, name)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64, copy=False)


def outside(numbers: np.ndarray, limit: int) -> bool:
    """Whether any of these int64 numbers is below 0 or not below `limit`.

    One pass tells: read as unsigned, the negative numbers are the largest.
    """
    return bool(numbers.size) and int(numbers.view(np.uint64).max()) >= limit


def _check_range(ids: np.ndarray, vocab_size: int, name: str, also: str = "") -> None:
    if outside(ids, vocab_size):
        low, high = int(ids.min()), int(ids.max())
        wrong = low if low < 0 else high
        raise ValueError(
            f"{name} must lie between 0 and {vocab_size - 1}{also}, got {wrong}; "
            "the text was encoded with another tokenizer, or vocab_size is too small"
        )
