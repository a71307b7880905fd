"""What models return: attributes that can also be read like a dictionary or a tuple."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from pymodel.models.cache import KeyValueCache
from pymodel.tensor import Tensor


class Deferred:
    """A value that is computed when it is first read: what a `DeferredField` may be set to."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute


class DeferredField:
    """A field of a dataclass, None by default, that may hold a `Deferred` until it is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return None  # the default
        value = vars(instance)[self._name]
        if isinstance(value, Deferred):
            value = vars(instance)[self._name] = value.compute()
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value


class ModelOutput:
    """Base of the outputs, which are dataclasses.

    Fields that are None are absent from the dictionary and from the tuple: `output["logits"]`,
    `output[0]`, `output[:2]`, `output.to_tuple()`, `dict(output.items())`.
    """

    def keys(self) -> list[str]:
        """Names of the fields that are set, in order."""
        names = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return [name for name in names if vars(self)[name] is not None]

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
    logits: (batch, sequence, vocab_size). Beside a loss, which needs no memory for them, they are computed
        when they are first read, from the weights as they are then.
    past_key_values, hidden_states: as in `BaseModelOutput`.
    """

    loss: Tensor | None = None
    logits: Any = DeferredField()  # Tensor | None
    past_key_values: KeyValueCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
