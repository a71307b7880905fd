"""Small tokenizers of every kind, trained here and written the way Hugging Face's libraries write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

transformers.utils.logging.set_verbosity_error()

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "Ein größeres Haus; naïve façade — 東京と大阪 and Zürich.",
    "def function(value):\n    return value + 1  # number 12345",
    "She said: 'we're here!' . Then they've gone 😀👩‍👩‍👧 away.",
] * 8

# Each is awkward for a reason: nothing, nothing but white space, special tokens written out, characters of
# several bytes, accents in two forms, characters no vocabulary has, a word far longer than any token.
AWKWARD = [
    "The quick brown fox",
    "",
    " ",
    "  two  spaces\tand\n\nlines \r\n",
    "don't, won't . we're ! it's",
    "größer naïve e\u0301te\u0301 \ufb01ne",
    "東京と大阪 한국어 \u00a0\u3000",
    "emoji 😀👩‍👩‍👧 flags 🇩🇪 \U0010ffff",
    "[CLS] <s> </s> [MASK] <mask> <|endoftext|>",
    "\x00\x01 control \ufeff",
    "supercalifragilistic" * 6,
    "x" * 130,
]


def _train(backend: tokenizers.Tokenizer, trainer: Any) -> tokenizers.Tokenizer:
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def wordpiece(lowercase: bool = True) -> tokenizers.Tokenizer:
    """BERT's."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _train(backend, trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False))
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return backend


def byte_level() -> tokenizers.Tokenizer:
    """GPT-2's."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return _train(backend, _byte_trainer(["<|endoftext|>"]))


def roberta() -> tokenizers.Tokenizer:
    """RoBERTa's and BART's."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    mask = tokenizers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    _train(backend, _byte_trainer(["<s>", "<pad>", "</s>", "<unk>", mask]))
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return backend


def _byte_trainer(special: list[Any]) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def llama() -> tokenizers.Tokenizer:
    """Llama 2's: spaces are a letter, characters without a token fall back to tokens of single bytes."""
    special = ["<unk>", "<s>", "</s>"]
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=380, min_frequency=2, special_tokens=special + every_byte, show_progress=False
    )
    _train(backend, trainer)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s>:0 $A:0 <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    content = json.loads(backend.to_str())
    # Training had to add the bytes; in a model's file they are ordinary tokens.
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < len(special)]
    content["model"] |= {"byte_fallback": True, "fuse_unk": True}
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def unigram() -> tokenizers.Tokenizer:
    """T5's: SentencePiece's unigram model."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    _train(backend, trainer)
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A:0 </s>:0 $B:0 </s>:0", special_tokens=[("</s>", 1)]
    )
    return backend


KINDS: dict[str, tuple[Callable[[], tokenizers.Tokenizer], dict[str, Any]]] = {
    "wordpiece": (
        wordpiece,
        {
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        },
    ),
    "byte_level": (byte_level, dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")),
    "roberta": (
        roberta,
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "cls_token": "<s>",
            "mask_token": "<mask>",
        },
    ),
    "llama": (
        llama,
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "</s>",
            "padding_side": "left",
        },
    ),
    "unigram": (unigram, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}),
}


def write(folder: Path, kind: str, **config: Any) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json of a kind of KINDS; returns it."""
    make, tokens = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    make().save(str(folder / "tokenizer.json"))
    content = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def stock(folder: Path, **changes: Any) -> Any:
    """transformers' tokenizer of a folder."""
    return transformers.AutoTokenizer.from_pretrained(folder, **changes)


def assert_same(ours: Any, theirs: Any) -> None:
    """Two calls gave the same columns and the same account of every token."""
    assert dict(ours) == {name: _plain(column) for name, column in theirs.items()}
    for row, encoding in enumerate(theirs.encodings or []):
        assert ours.tokens(row) == encoding.tokens
        assert ours.word_ids(row) == encoding.word_ids
        assert ours.sequence_ids(row) == encoding.sequence_ids


def _plain(column: Any) -> Any:
    return column.tolist() if hasattr(column, "tolist") else column
