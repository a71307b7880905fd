"""Marian's tokenizers: a SentencePiece model for each of two languages, and one vocabulary for both.

Source: Junczys-Dowmunt et al. 2018, "Marian: Fast Neural Machine Translation in C++" (arXiv:1804.00344);
files as in https://huggingface.co/Helsinki-NLP
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors

from pymodel.errors import CheckpointError
from pymodel.text.sentencepiece import parse_sentencepiece
from pymodel.text.special_tokens import text_of

MARIAN_FILES = ("source.spm", "target.spm", "vocab.json")
_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def marian_backends(
    files: dict[str, bytes], folder: Path, config: dict[str, Any]
) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """The tokenizers of the source and of the target language.

    Args:
        files: the content of `MARIAN_FILES`.
        folder: names them in messages.
        config: what tokenizer_config.json holds; what this function assumes where it is silent is entered.

    Raises: CheckpointError when a file is damaged, or the languages have vocabularies of their own.
    """
    config.setdefault("tokenizer_class", "MarianTokenizer")
    config.setdefault("model_max_length", 512)
    for role, token in _TOKENS.items():
        config.setdefault(role, token)
    if config.get("separate_vocabs"):
        raise CheckpointError(
            f"{folder}: expected one vocabulary for both languages, got separate_vocabs=True"
        )
    vocabulary = _vocabulary(files["vocab.json"], folder / "vocab.json")
    end, unknown = text_of(config["eos_token"]), text_of(config["unk_token"])
    missing = [token for token in (end, unknown) if token not in vocabulary]
    if missing:
        raise CheckpointError(f"{folder / 'vocab.json'}: {', '.join(missing)} is not in it; copy it again")
    codes = [token for token in vocabulary if token.startswith(">>") and token.endswith("<<")]
    backends = []
    for name in ("source.spm", "target.spm"):
        backend = parse_sentencepiece(files[name], folder / name).backend(vocabulary, unknown)
        backend.post_processor = processors.TemplateProcessing(
            single=["$A", end], pair=["$A", "$B", end], special_tokens=[(end, vocabulary[end])]
        )
        # Models of several target languages are told which one at the beginning: ">>fra<< text".
        backend.add_tokens([AddedToken(code, normalized=False) for code in codes])
        backends.append(backend)
    return backends[0], backends[1]


def _vocabulary(content: bytes, path: Path) -> dict[str, int]:
    try:
        vocabulary: dict[str, int] = json.loads(content)
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("its ids are not the numbers from 0 on")
    except (ValueError, TypeError, AttributeError) as problem:
        raise CheckpointError(f"{path}: not a whole vocabulary ({problem}); copy it again") from None
    return vocabulary
