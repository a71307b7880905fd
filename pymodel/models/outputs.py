"""What models return: attributes that can also be read like a dictionary or a tuple."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pymodel.models.cache import KeyValueCache
from pymodel.tensor import Tensor


class ModelOutput:
    """Base of the outputs, which are dataclasses.

    Fields that are None are absent from the dictionary and from the tuple: `output["logits"]`,
    `output[0]`, `output[:2]`, `output.to_tuple()`, `dict(output.items())`.
    """

    def keys(self) -> list[str]:
        """Names of the fields that are set, in order."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]  # type: ignore[arg-type]

    def values(self) -> list[Any]:
        """The fields that are set, in order."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Pairs of name and value of the fields that are set."""
        return [(name, getattr(self, name)) for name in self.keys()]

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are set, in order."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"{key!r} is not set; this output holds {', '.join(self.keys())}")
            return getattr(self, key)
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __len__(self) -> int:
        return len(self.keys())


@dataclasses.dataclass
class BaseModelOutput(ModelOutput):
    """Output of a model without a head.

    last_hidden_state: (batch, sequence, n_embd).
    past_key_values: the cache that the next call continues from, when one is in use.
    hidden_states: the embeddings and the output of every block, when asked for; the last of them
        is `last_hidden_state`.
    """

    last_hidden_state: Tensor
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None


@dataclasses.dataclass
class CausalLMOutput(ModelOutput):
    """Output of a language model.

    loss: scalar, the mean cross entropy of the labels in nats, when labels were given.
    logits: (batch, sequence, vocab_size).
    past_key_values, hidden_states: as in `BaseModelOutput`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
