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
from pymodel.hub import resolve_folder
from pymodel.models.labels import DEFAULT_COUNT, default_labels, read_labels

CONFIG_FILE = "config.json"

Config = TypeVar("Config", bound="PretrainedConfig")

# What transformers (versions 2 to 5) and others write into any model's config.json without bearing on the
# numbers that a model computes: accepted, kept, and written back by `save_pretrained`. So are keys that
# begin with an underscore, which are transformers' own notes.
_FOREIGN_KEYS_TEXT = """
    adapters architectures attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample
    dtype early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing is_decoder
    is_encoder_decoder language length_penalty max_length max_sequence_length min_length model_max_length
    name name_or_path no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    output_attentions output_hidden_states output_past output_scores pad_token_id prefix problem_type
    pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sbert_ce_default_activation_function sentence_transformers sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings
    tokenizer_class top_k top_p torch_dtype torchscript transformers.js_config transformers_version
    typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16 use_cache
"""
_FOREIGN_KEYS = frozenset(_FOREIGN_KEYS_TEXT.split())
_LABEL_KEYS = ("num_labels", "id2label", "label2id")
# What every configuration can be asked for, and the answer where neither family nor file has one.
_COMMON_DEFAULTS: dict[str, Any] = {
    "bos_token_id": None,
    "decoder_start_token_id": None,
    "eos_token_id": None,
    "is_encoder_decoder": False,
    "pad_token_id": None,
    "problem_type": None,
    "tie_word_embeddings": True,
}


@dataclasses.dataclass(init=False)
class PretrainedConfig:
    """Base of the configurations: a dataclass of the keys that a family of models computes with.

    A family subclasses it with `@dataclass(init=False)`, one field with a default per key, and
    checks the numbers in `validate`. Keys that transformers writes but no model here reads are kept
    in `foreign`. All have the classes of a classifier: `id2label`, `label2id`, `num_labels`.

    Args:
        source: where the values come from, for messages.
        values: keys of `config.json`; the rest take their defaults.

    Raises: ConfigError for an unknown key, naming the nearest known one, for a value of the wrong
    type, and for numbers that do not fit together.
    """

    model_type: ClassVar[str] = ""
    aliases: ClassVar[dict[str, str]] = {}  # other names of fields, as transformers' attribute_map
    foreign_keys: ClassVar[frozenset[str]] = frozenset()  # what transformers adds for this family
    default_num_labels: ClassVar[int] = DEFAULT_COUNT

    foreign: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    id2label: dict[int, str] = dataclasses.field(default_factory=dict, repr=False)

    def __init__(self, source: str = "", /, **values: Any) -> None:
        prefix = f"{source}: " if source else f"{type(self).__name__}: "
        fields = {field.name: field for field in self._family_fields()}
        self.foreign = {}
        for name, field in fields.items():
            setattr(self, name, field.default)
        family = values.get("model_type", self.model_type)
        if family != self.model_type:  # its keys would be unknown, which says less
            raise ConfigError(f"{prefix}model_type must be {self.model_type!r}, got {family!r}")
        if values.get("pruned_heads"):
            raise ConfigError(f"{prefix}pruned_heads must be empty, all heads are built")
        hints = typing.get_type_hints(type(self))
        for given, value in values.items():
            key = self.aliases.get(given, given)
            if key in fields:
                if not _fits(value, hints[key]):
                    wanted = str(fields[key].type).replace(" | ", " or ")
                    raise ConfigError(f"{prefix}{given} must be {wanted}, got {value!r}")
                setattr(self, key, value)
            elif key in _LABEL_KEYS:
                pass
            elif key.startswith("_") or key in _FOREIGN_KEYS or key in self.foreign_keys:
                self.foreign[key] = value
            elif key != "model_type":
                raise ConfigError(prefix + _unknown_key(given, [*fields, *self.aliases]))
        try:
            labels = [values.get(key) for key in _LABEL_KEYS]
            self.id2label = (
                default_labels(self.default_num_labels) if labels == [None] * 3 else read_labels(*labels)
            )
            self.validate()
        except ConfigError as problem:
            raise ConfigError(f"{prefix}{problem}") from None

    def validate(self) -> None:
        """Raises ConfigError when the numbers do not fit together; called after construction."""

    @property
    def num_labels(self) -> int:
        """How many classes a classifier tells apart; setting it forgets their names."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        self.id2label = default_labels(count)

    @property
    def label2id(self) -> dict[str, int]:
        """The number of every class by its name."""
        return {name: label for label, name in self.id2label.items()}

    @classmethod
    def _family_fields(cls) -> list[dataclasses.Field[Any]]:
        return [field for field in dataclasses.fields(cls) if field.name not in ("foreign", "id2label")]

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any], source: str = "") -> Config:
        """A configuration from the content of a `config.json`; `source` names it in errors."""
        return cls(source, **values)

    @classmethod
    def from_pretrained(
        cls: type[Config],
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        **changes: Any,
    ) -> Config:
        """Reads the `config.json` of a model.

        Args:
            name: a folder, or a repository of the hub; revision, local_files_only: see
                `hub.resolve_folder`.
            changes: keys to replace, such as num_labels=3.

        Raises: CheckpointError when it is missing or no JSON; ConfigError for what it holds.
        """
        folder = resolve_folder(
            name, revision=revision, local_files_only=local_files_only, patterns=[CONFIG_FILE]
        )
        return cls.from_dict({**read_config(folder), **changes}, str(folder / CONFIG_FILE))

    def to_dict(self) -> dict[str, Any]:
        """All keys, those of transformers that were kept included."""
        own = {field.name: getattr(self, field.name) for field in self._family_fields()}
        labels = {}
        if self.id2label != default_labels(self.default_num_labels):
            labels = {"id2label": self.id2label, "label2id": self.label2id}
        return copy.deepcopy({**self.foreign, **own, **labels, "model_type": self.model_type})

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
        # Only for names that are no attribute: aliases such as hidden_size, what was kept, and what
        # code for all families asks for.
        if name in type(self).aliases:
            return getattr(self, type(self).aliases[name])
        foreign = self.__dict__.get("foreign", {})
        if name in foreign:
            return foreign[name]
        if name in _COMMON_DEFAULTS:
            return _COMMON_DEFAULTS[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a model folder's `config.json`.

    Raises: CheckpointError when the file is missing or is no JSON object.
    """
    return read_json(Path(folder) / CONFIG_FILE)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder; CheckpointError when there is none."""
    return dict(_read_json(path, dict, "object"))


def read_json_list(path: Path) -> list[Any]:
    """A JSON list, the same way."""
    return list(_read_json(path, list, "list"))


def _read_json(path: Path, kind: type, name: str) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a model folder holds {CONFIG_FILE}") from None
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path}: cannot be read as JSON ({problem}); copy it again") from None
    if not isinstance(content, kind):
        raise CheckpointError(f"{path}: expected a JSON {name}, got {type(content).__name__}; copy it again")
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
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
