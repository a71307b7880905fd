"""The options of a call: what it names, else what the model's folder says, else what holds for all."""

from __future__ import annotations

import dataclasses
from typing import Any

from pymodel.errors import ConfigError
from pymodel.generate.options import GenerationOptions

_KNOWN = tuple(field.name for field in dataclasses.fields(GenerationOptions))
_TOKENS = ("eos_token_id", "pad_token_id", "decoder_start_token_id")
# The first of each pair says the same as the second in other words: naming either replaces both defaults.
_LENGTHS = (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length"))


def options_of(model: Any, given: dict[str, Any]) -> GenerationOptions:
    """The options of a call.

    Args:
        model: `generation_config` and `config` have its own.
        given: by name; None for what is not given.

    Raises: ConfigError for a name that is none and for values that make no sense.
    """
    for name in given:
        if name not in _KNOWN:
            raise ConfigError(f"generate has no option {name!r}; it has {', '.join(_KNOWN)}")
    given = {name: value for name, value in given.items() if value is not None}
    own = vars(model.generation_config)
    values = {name: own[name] for name in _KNOWN if own.get(name) is not None}
    for pair in _LENGTHS:
        if given.keys() & set(pair):
            values = {name: value for name, value in values.items() if name not in pair}
    for name in _TOKENS:
        values.setdefault(name, getattr(model.config, name, None))
    if values["decoder_start_token_id"] is None:
        values["decoder_start_token_id"] = getattr(model.config, "bos_token_id", None)
    return GenerationOptions(**{**values, **given})
