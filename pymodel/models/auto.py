"""Classes by the family that a `config.json` names: AutoConfig, AutoModel and AutoModelFor...

A family has a line in FAMILIES; its module is imported when a model of it is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
from pathlib import Path
from typing import Any, ClassVar

from pymodel.errors import ConfigError
from pymodel.hub import resolve_folder
from pymodel.models.config import CONFIG_FILE, PretrainedConfig, read_config
from pymodel.models.pretrained import PretrainedModel


@dataclasses.dataclass(frozen=True)
class Family:
    """Where a family's classes are: its modules below `pymodel.models`, and the class for each task."""

    config_module: str
    config: str
    module: str
    base: str = ""
    causal_lm: str = ""
    masked_lm: str = ""
    pre_training: str = ""
    sequence_classification: str = ""
    token_classification: str = ""
    question_answering: str = ""
    next_sentence_prediction: str = ""
    seq2seq_lm: str = ""
    text_encoding: str = ""


FAMILIES: dict[str, Family] = {
    "bart": Family(
        "bart_config",
        "BartConfig",
        "bart",
        base="BartModel",
        seq2seq_lm="BartForConditionalGeneration",
        sequence_classification="BartForSequenceClassification",
    ),
    "bert": Family(
        "bert_config",
        "BertConfig",
        "bert",
        base="BertModel",
        masked_lm="BertForMaskedLM",
        pre_training="BertForPreTraining",
        sequence_classification="BertForSequenceClassification",
        token_classification="BertForTokenClassification",
        question_answering="BertForQuestionAnswering",
        next_sentence_prediction="BertForNextSentencePrediction",
    ),
    "distilbert": Family(
        "distilbert_config",
        "DistilBertConfig",
        "distilbert",
        base="DistilBertModel",
        masked_lm="DistilBertForMaskedLM",
        pre_training="DistilBertForMaskedLM",
        sequence_classification="DistilBertForSequenceClassification",
        token_classification="DistilBertForTokenClassification",
        question_answering="DistilBertForQuestionAnswering",
    ),
    "gpt2": Family("gpt2_config", "GPT2Config", "gpt2", base="GPT2Model", causal_lm="GPT2LMHeadModel"),
    "llama": Family("llama_config", "LlamaConfig", "llama", base="LlamaModel", causal_lm="LlamaForCausalLM"),
    "marian": Family(
        "marian_config", "MarianConfig", "marian", base="MarianModel", seq2seq_lm="MarianMTModel"
    ),
    "mistral": Family(
        "llama_config", "MistralConfig", "llama", base="MistralModel", causal_lm="MistralForCausalLM"
    ),
    "qwen2": Family("llama_config", "Qwen2Config", "llama", base="Qwen2Model", causal_lm="Qwen2ForCausalLM"),
    "roberta": Family(
        "roberta_config",
        "RobertaConfig",
        "roberta",
        base="RobertaModel",
        masked_lm="RobertaForMaskedLM",
        pre_training="RobertaForMaskedLM",
        sequence_classification="RobertaForSequenceClassification",
        token_classification="RobertaForTokenClassification",
        question_answering="RobertaForQuestionAnswering",
    ),
    "t5": Family(
        "t5_config",
        "T5Config",
        "t5",
        base="T5Model",
        seq2seq_lm="T5ForConditionalGeneration",
        text_encoding="T5EncoderModel",
    ),
    "transformer": Family(
        "transformer_config",
        "TransformerConfig",
        "transformer",
        base="TransformerModel",
        seq2seq_lm="TransformerForConditionalGeneration",
    ),
}
TASKS = [f.name for f in dataclasses.fields(Family) if f.name not in ("config_module", "config", "module")]


class AutoConfig:
    """The configuration class that belongs to a model."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        **changes: Any,
    ) -> PretrainedConfig:
        """Reads the `config.json` of a folder or a repository of the hub.

        Args and errors: as `PretrainedConfig.from_pretrained`; ConfigError for a family that is not
        built in.
        """
        folder = resolve_folder(
            name, revision=revision, local_files_only=local_files_only, patterns=[CONFIG_FILE]
        )
        values = {**read_config(folder), **changes}
        return config_class(values.get("model_type"), folder).from_dict(values, str(folder / CONFIG_FILE))

    @classmethod
    def for_model(cls, model_type: str, **values: Any) -> PretrainedConfig:
        """A new configuration of a family, such as "gpt2"."""
        return config_class(model_type)(**values)


class _AutoModel:
    """Base of the classes below; `task` is a field of `Family`."""

    task: ClassVar[str]

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        dtype: Any = None,
        device: str | None = None,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        **changes: Any,
    ) -> Any:  # of a class that only the file decides
        """Reads a model of whatever family the `config.json` names.

        Args and errors: as `PretrainedModel.from_pretrained`; ConfigError for a family that is not
        built in or has no model for the task.
        """
        folder = resolve_folder(name, revision=revision, local_files_only=local_files_only)
        kind = model_class(read_config(folder).get("model_type"), cls.task, folder)
        return kind.from_pretrained(folder, dtype, device, **changes)

    @classmethod
    def from_config(cls, config: PretrainedConfig, dtype: str = "float32", device: str | None = None) -> Any:
        """A new model of the configuration's family, with initial weights."""
        return model_class(config.model_type, cls.task)(config, dtype, device)  # type: ignore[call-arg]


class AutoModel(_AutoModel):
    """The bare model, without a head."""

    task = "base"


class AutoModelForCausalLM(_AutoModel):
    """Language models that predict the next token."""

    task = "causal_lm"


class AutoModelForMaskedLM(_AutoModel):
    """Encoders that predict masked tokens."""

    task = "masked_lm"


class AutoModelForPreTraining(_AutoModel):
    """Models with the heads that their authors pre-trained them with."""

    task = "pre_training"


class AutoModelForSequenceClassification(_AutoModel):
    """Classifiers of texts."""

    task = "sequence_classification"


class AutoModelForTokenClassification(_AutoModel):
    """Classifiers of tokens, such as entity recognisers."""

    task = "token_classification"


class AutoModelForQuestionAnswering(_AutoModel):
    """Models that find an answer in a text."""

    task = "question_answering"


class AutoModelForNextSentencePrediction(_AutoModel):
    """Models that say whether one text follows another."""

    task = "next_sentence_prediction"


class AutoModelForSeq2SeqLM(_AutoModel):
    """Encoder-decoders that translate or summarise."""

    task = "seq2seq_lm"


class AutoModelForTextEncoding(_AutoModel):
    """The encoder alone of models that have a decoder too."""

    task = "text_encoding"


def from_pretrained(
    name: str | os.PathLike[str],
    dtype: Any = None,
    device: str | None = None,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    **changes: Any,
) -> Any:
    """Reads a model as the class that saved it, which `config.json` names under "architectures"; the
    family's language model where that says nothing of use.

    Args and errors: as `AutoModel.from_pretrained`.
    """
    folder = resolve_folder(name, revision=revision, local_files_only=local_files_only)
    content = read_config(folder)
    model_type = content.get("model_type")
    family = _family(model_type, folder)
    offered = {getattr(family, task): task for task in TASKS if getattr(family, task)}
    saved_as = [name for name in content.get("architectures") or [] if name in offered]
    language_models = [family.causal_lm, family.seq2seq_lm, family.masked_lm, family.base]
    chosen = next(name for name in [*saved_as, *language_models] if name)
    return model_class(model_type, offered[chosen], folder).from_pretrained(folder, dtype, device, **changes)


def config_class(model_type: Any, folder: Path | None = None) -> type[PretrainedConfig]:
    """The configuration class of a family; ConfigError for one that is not built in."""
    family = _family(model_type, folder)
    found: type[PretrainedConfig] = getattr(_module(family.config_module), family.config)
    return found


def model_class(model_type: Any, task: str, folder: Path | None = None) -> type[PretrainedModel]:
    """The class of a family for one of TASKS; ConfigError when there is none."""
    family = _family(model_type, folder)
    name = getattr(family, task)
    if not name:
        able = ", ".join(other for other, entry in FAMILIES.items() if getattr(entry, task))
        raise ConfigError(
            f"{_source(folder)}model_type {model_type!r} has no model for {task.replace('_', ' ')}; "
            f"families that have one: {able or 'none yet'}"
        )
    found: type[PretrainedModel] = getattr(_module(family.module), name)
    return found


def _family(model_type: Any, folder: Path | None) -> Family:
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    near = difflib.get_close_matches(str(model_type), FAMILIES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"{_source(folder)}model_type {model_type!r} is not built in; expected {', '.join(FAMILIES)}{hint}"
    )


def _source(folder: Path | None) -> str:
    return "" if folder is None else f"{folder / CONFIG_FILE}: "


def _module(name: str) -> Any:
    return importlib.import_module(f"pymodel.models.{name}")
