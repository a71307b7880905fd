"""Small encoders with tokenizers of their own, as folders that both libraries read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from encoder_models import reference_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pymodel.models.auto import FAMILIES

WORDS = [
    *("a", "b", "c", "the", "cat", "dog", "and", "sat", "on", "mat", "##s", "##ed", ",", "."),
    *("paris", "is", "capital", "of", "france"),
]
# Special tokens by family; RoBERTa's padding is token 1.
_SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "distilbert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}
ROLES = {
    "bert": {
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "roberta": {
        "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>",
        "mask_token": "<mask>",
    },
}  # fmt: skip
ROLES["distilbert"] = ROLES["bert"]


def save_text_model(folder: Path, model_type: str, task: str, **changes: Any) -> Any:
    """Writes a random model of transformers and a word-piece tokenizer; returns the model."""
    model = reference_model(model_type, getattr(FAMILIES[model_type], task), **changes)
    model.save_pretrained(folder)
    tokenizer(model_type).save(str(folder / "tokenizer.json"))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    if model_type != "bert":
        names.remove("token_type_ids")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names, **ROLES[model_type]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return model


def tokenizer(model_type: str) -> Tokenizer:
    """Lower-cased words and pieces of them, between the family's special tokens."""
    roles = ROLES[model_type]
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL[model_type], *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=roles["unk_token"]))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = roles["cls_token"], roles["sep_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, vocabulary[token]) for token in (first, last)],
    )
    made.add_special_tokens(_SPECIAL[model_type])
    return made
