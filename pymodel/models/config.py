"""Model configurations: Hugging Face's `config.json`, read strictly and written back whole."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import os
import types
import typing
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pymodel.errors import CheckpointError, ConfigError
from pymodel.files import atomic_file

CONFIG_FILE = "config.json"

Config = TypeVar("Config", bound="PretrainedConfig")

# What transformers (versions 2 to 5) writes into any model's config.json without bearing on the
# numbers that a model computes: accepted, kept, and written back by `save_pretrained`.
_FOREIGN_KEYS_TEXT = """
    _attn_implementation _commit_hash _name_or_path architectures attn_implementation auto_map bad_words_ids
    begin_suppress_tokens bos_token_id chunk_size_feed_forward cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size
    eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id
    gradient_checkpointing id2label is_decoder is_encoder_decoder label2id length_penalty max_length
    min_length name_or_path no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences
    output_attentions output_hidden_states output_past output_scores pad_token_id prefix problem_type
    pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings
    tokenizer_class top_k top_p torch_dtype torchscript transformers_version typical_p unk_token_id
    use_bfloat16 use_cache
"""
_FOREIGN_KEYS = frozenset(_FOREIGN_KEYS_TEXT.split())


@dataclasses.dataclass(init=False)
class PretrainedConfig:
    """Base of the configurations: a dataclass of the keys that a family of models computes with.

    A family subclasses it with `@dataclass(init=False)`, one field with a default per key, and
    checks the numbers in `validate`. Keys that transformers writes but no model here reads are kept
    in `foreign`.

    Args:
        source: where the values come from, for messages.
        values: keys of `config.json`; the rest take their defaults.

    Raises: ConfigError for an unknown key, naming the nearest known one, for a value of the wrong
    type, and for numbers that do not fit together.
    """

    model_type: ClassVar[str] = ""
    aliases: ClassVar[dict[str, str]] = {}  # other names of fields, as transformers' attribute_map
    foreign_keys: ClassVar[frozenset[str]] = frozenset()  # what transformers adds for this family

    foreign: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __init__(self, source: str = "", /, **values: Any) -> None:
        prefix = f"{source}: " if source else f"{type(self).__name__}: "
        fields = {field.name: field for field in dataclasses.fields(self) if field.name != "foreign"}
        self.foreign = {}
        for name, field in fields.items():
            setattr(self, name, field.default)
        hints = typing.get_type_hints(type(self))
        for given, value in values.items():
            key = self.aliases.get(given, given)
            if key in fields:
                if not _fits(value, hints[key]):
                    wanted = str(fields[key].type).replace(" | ", " or ")
                    raise ConfigError(f"{prefix}{given} must be {wanted}, got {value!r}")
                setattr(self, key, value)
            elif key in _FOREIGN_KEYS or key in self.foreign_keys:
                self.foreign[key] = value
            elif key != "model_type":
                raise ConfigError(prefix + _unknown_key(given, [*fields, *self.aliases]))
            elif value != self.model_type:
                raise ConfigError(f"{prefix}model_type must be {self.model_type!r}, got {value!r}")
        try:
            self.validate()
        except ConfigError as problem:
            raise ConfigError(f"{prefix}{problem}") from None

    def validate(self) -> None:
        """Raises ConfigError when the numbers do not fit together; called after construction."""

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any], source: str = "") -> Config:
        """A configuration from the content of a `config.json`; `source` names it in errors."""
        return cls(source, **values)

    @classmethod
    def from_pretrained(cls: type[Config], folder: str | os.PathLike[str]) -> Config:
        """Reads `config.json` of a model folder.

        Raises: CheckpointError when it is missing or no JSON; ConfigError for what it holds.
        """
        return cls.from_dict(read_config(folder), str(Path(folder) / CONFIG_FILE))

    def to_dict(self) -> dict[str, Any]:
        """All keys, those of transformers that were kept included."""
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "foreign"
        }
        return copy.deepcopy({**self.foreign, **own, "model_type": self.model_type})

    def to_json(self, **more: Any) -> str:
        """The text of `config.json`, with keys added or replaced."""
        return json.dumps({**self.to_dict(), **more}, indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes `config.json` into a folder, which is made when missing.

        Raises: CheckpointError when it cannot be written; an earlier file is then unchanged.
        """
        with atomic_file(Path(folder) / CONFIG_FILE, CheckpointError) as stream:
            stream.write(self.to_json().encode())

    def __getattr__(self, name: str) -> Any:
        # Only for names that are no attribute: aliases such as hidden_size, and what was kept.
        if name in type(self).aliases:
            return getattr(self, type(self).aliases[name])
        foreign = self.__dict__.get("foreign", {})
        if name in foreign:
            return foreign[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a model folder's `config.json`.

    Raises: CheckpointError when the folder or the file is missing, or is no JSON object.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.parent.is_dir():
        raise CheckpointError(
            f"{path.parent}: no such folder; name a model folder on this machine, such as one fetched with "
            f"'hf download NAME --local-dir {path.parent.name}'"
        )
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder; CheckpointError when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a model folder holds {CONFIG_FILE}") from None
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path}: cannot be read as JSON ({problem}); copy it again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}; copy it again")
    return content


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(sorted(known))}"
    return f"unknown key {key!r}; {hint}"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type of a field; an integer serves as a float, a bool as neither."""
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        (item,) = typing.get_args(hint)
        return isinstance(value, list) and all(_fits(v, item) for v in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
