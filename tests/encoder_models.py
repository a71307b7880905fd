"""Encoders of transformers with random weights, on disk and in memory, to compare with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import pymodel.models as ours

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

MAX_POSITIONS = 23
BATCH, SEQUENCE = 3, 17
LENGTHS = np.array([SEQUENCE, 11, 1])
MASK = (np.arange(SEQUENCE) < LENGTHS[:, None]).astype(np.int64)
CLASSES = 5

# Extents that no vector width or tile divides, and every way in which a configuration changes the sums.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", "vocab_size": 61, "hidden_size": 24, "num_attention_heads": 3},
    "bert untied": {
        "model_type": "bert", "vocab_size": 67, "hidden_size": 21, "num_attention_heads": 7,
        "tie_word_embeddings": False, "hidden_act": "relu", "type_vocab_size": 3,
    },
    "bert one head": {
        "model_type": "bert", "vocab_size": 53, "hidden_size": 10, "num_attention_heads": 1,
        "hidden_act": "gelu_new", "pad_token_id": 7, "layer_norm_eps": 1e-5,
    },
    "roberta": {"model_type": "roberta", "vocab_size": 61, "hidden_size": 21, "num_attention_heads": 7},
    "roberta untied": {
        "model_type": "roberta", "vocab_size": 58, "hidden_size": 16, "num_attention_heads": 2,
        "tie_word_embeddings": False, "hidden_act": "silu", "type_vocab_size": 1, "pad_token_id": 3,
    },
    "distilbert": {"model_type": "distilbert", "vocab_size": 61, "dim": 15, "n_heads": 5},
    "distilbert untied": {
        "model_type": "distilbert", "vocab_size": 47, "dim": 22, "n_heads": 1,
        "tie_word_embeddings": False, "activation": "relu", "sinusoidal_pos_embds": True,
    },
}  # fmt: skip
_BERT = {
    "num_hidden_layers": 2, "intermediate_size": 37, "max_position_embeddings": MAX_POSITIONS,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
COMMON: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": {
        "n_layers": 2, "hidden_dim": 37, "max_position_embeddings": MAX_POSITIONS, "dropout": 0.0,
        "attention_dropout": 0.0, "qa_dropout": 0.0, "seq_classif_dropout": 0.0,
    },
}  # fmt: skip
HEADS = {
    "bert": [
        "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction", "BertForQuestionAnswering",
        "BertForSequenceClassification", "BertForTokenClassification",
    ],
    "roberta": [
        "RobertaForMaskedLM", "RobertaForQuestionAnswering", "RobertaForSequenceClassification",
        "RobertaForTokenClassification",
    ],
    "distilbert": [
        "DistilBertForMaskedLM", "DistilBertForQuestionAnswering", "DistilBertForSequenceClassification",
        "DistilBertForTokenClassification",
    ],
}  # fmt: skip
# Keys of the dropouts that a classifier of texts has.
DROPOUTS = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    "roberta": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    "distilbert": ("dropout", "attention_dropout", "seq_classif_dropout"),
}
# A family's first configuration with every head, the others with two.
CASES = [
    (name, head)
    for name, config in CONFIGS.items()
    for head in HEADS[config["model_type"]]
    if name in HEADS or head.endswith(("ForMaskedLM", "SequenceClassification"))
]


def config_of(name: str, head: str = "", **changes: Any) -> transformers.PretrainedConfig:
    """A configuration of CONFIGS: 2 blocks, a table of 23 positions, no dropout."""
    values = {**CONFIGS[name]}
    model_type = values.pop("model_type")
    labels = {"num_labels": CLASSES} if head.endswith("Classification") and "id2label" not in changes else {}
    merged = {**COMMON[model_type], **labels, **values, **changes}
    return transformers.AutoConfig.for_model(model_type, **merged, attn_implementation="eager")


def reference_model(name: str, head: str, seed: int = 0, **changes: Any) -> Any:
    """A model whose every parameter is random and large enough to matter, biases and norms too."""
    torch.manual_seed(seed)
    model = getattr(transformers, head)(config_of(name, head, **changes))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter) * 0.2
            is_norm = "norm" in parameter_name.lower() and parameter_name.endswith("weight")
            parameter.copy_(1.0 + noise if is_norm else noise)
    return model.eval()


def trio(folder: Path, name: str, head: str, seed: int = 0, **changes: Any) -> tuple[Any, Any, Any]:
    """A model of transformers, the same in float64, and ours loaded from the saved one."""
    theirs = reference_model(name, head, seed, **changes)
    theirs.save_pretrained(folder)
    return theirs, copy.deepcopy(theirs).double(), getattr(ours, head).from_pretrained(folder)


def random_inputs(config: Any, head: str, seed: int = 1) -> dict[str, np.ndarray]:
    """What a model with this head is trained on: ids, a mask, token types where there are several, labels."""
    rng = np.random.default_rng(seed)
    shape = (BATCH, SEQUENCE)
    inputs = {"input_ids": rng.integers(0, config.vocab_size, shape), "attention_mask": MASK}
    types = getattr(config, "type_vocab_size", 0)
    if types > 1:
        inputs["token_type_ids"] = rng.integers(0, types, shape)
    if "MaskedLM" in head or "PreTraining" in head:
        hidden = (rng.random(shape) < 0.3) & (MASK == 1)
        hidden[0, 2] = True
        inputs["labels"] = np.where(hidden, rng.integers(0, config.vocab_size, shape), -100)
    if "PreTraining" in head:
        inputs["next_sentence_label"] = rng.integers(0, 2, BATCH)
    elif "NextSentence" in head:
        inputs["labels"] = rng.integers(0, 2, BATCH)
    elif "SequenceClassification" in head:
        inputs["labels"] = rng.integers(0, CLASSES, BATCH)
    elif "TokenClassification" in head:
        inputs["labels"] = np.where(MASK == 1, rng.integers(0, CLASSES, shape), -100)
    elif "QuestionAnswering" in head:
        inputs["start_positions"] = rng.integers(0, SEQUENCE, BATCH)
        inputs["end_positions"] = np.array([SEQUENCE + 3, *rng.integers(0, SEQUENCE, BATCH - 1)])
    return inputs


def for_torch(inputs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The same arguments as torch's tensors."""
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


def logits_of(output: Any) -> dict[str, Any]:
    """The logits of an output by name, whatever a head calls them."""
    return {name: output[name] for name in output if name.endswith("logits")}


def without_labels(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arguments that are no labels."""
    kept = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    return {name: value for name, value in inputs.items() if name in kept}


def small_config(name: str, **changes: Any) -> Any:
    """`config_of` as a configuration of ours."""
    values = config_of(name, **changes).to_dict()
    return ours.AutoConfig.for_model(**{key: v for key, v in values.items() if not key.startswith("_")})
