"""What transformers' tokenizer classes say beyond the files, and tokenizers made of bare vocabulary files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from pymodel.errors import CheckpointError, ConfigError
from pymodel.text.special_tokens import text_of

END_OF_TEXT = "<|endoftext|>"

_BERT_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    # The white space before a mask belongs to it: the model fills in a word with its space.
    "mask_token": {"content": "<mask>", "lstrip": True, "normalized": False},
}
_IDS_AND_MASK = ("input_ids", "attention_mask")


@dataclasses.dataclass(frozen=True)
class Family:
    """What a tokenizer class of transformers adds to its files.

    Attributes:
        pipeline: how bare vocabulary files are read: "wordpiece", "gpt2", "roberta" or "qwen2"; None for
            classes that need a tokenizer.json.
        special_tokens: by role, used where the vocabulary has them and the files name none.
        model_input_names: the columns that its models take.
        padding_side: where its models want padding.
    """

    pipeline: str | None = None
    special_tokens: dict[str, Any] = dataclasses.field(default_factory=dict)
    model_input_names: tuple[str, ...] = _IDS_AND_MASK
    padding_side: str = "right"


_GPT2 = Family("gpt2", dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT))
_QWEN2 = Family("qwen2", dict.fromkeys(("eos_token", "unk_token", "pad_token"), END_OF_TEXT))
_ROBERTA = Family("roberta", _ROBERTA_TOKENS)
_BERT = Family("wordpiece", _BERT_TOKENS, ("input_ids", "token_type_ids", "attention_mask"))
_LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

# By the class that tokenizer_config.json names.
_BY_CLASS = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": Family("wordpiece", _BERT_TOKENS),
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _ROBERTA,
    "GPT2Tokenizer": _GPT2,
    "Qwen2Tokenizer": _QWEN2,
    "LlamaTokenizer": Family(None, _LLAMA_TOKENS, padding_side="left"),
    "T5Tokenizer": Family(None, _T5_TOKENS),
}
# By the model that config.json names, where no file names a class.
_BY_MODEL = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "roberta": "RobertaTokenizer",
    "bart": "BartTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "t5": "T5Tokenizer",
}


def family_of(tokenizer_class: str | None, model_type: str | None) -> Family:
    """The family of a class, such as BertTokenizerFast, or of a model; one that adds nothing if unknown."""
    name = (tokenizer_class or _BY_MODEL.get(model_type or "", "")).removesuffix("Fast")
    return _BY_CLASS.get(name, Family())


def backend_of_vocabulary(folder: Path, family: Family, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer from vocab.txt (WordPiece), or from vocab.json and merges.txt (byte-level BPE).

    Args:
        folder: holds the files.
        family: says how text is prepared, unless there is only one way.
        config: what tokenizer_config.json holds; what this function assumes where it is silent is
            entered, so that it can be saved.

    Raises: CheckpointError when the files are damaged or lack the tokens that the pipeline needs.
    """
    wordpiece = (folder / "vocab.txt").is_file() and family.pipeline in (None, "wordpiece")
    for role, token in (family.special_tokens or (_BERT_TOKENS if wordpiece else {})).items():
        config.setdefault(role, token)
    if wordpiece:
        return _wordpiece(folder / "vocab.txt", config)
    return _byte_level(folder, family.pipeline or "gpt2", config)


def gpt2_pipeline(model: models.BPE, add_prefix_space: bool = False) -> tokenizers.Tokenizer:
    """GPT-2's preparation of text around a model: no byte is lost, nothing is added."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def _wordpiece(path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """BERT's tokenizer. Source: Devlin et al. 2018 (arXiv:1810.04805); Wu et al. 2016 (arXiv:1609.08144)."""
    config.setdefault("tokenizer_class", "BertTokenizer")
    config.setdefault("do_lower_case", True)
    config.setdefault("tokenize_chinese_chars", True)
    config.setdefault("strip_accents", None)
    unknown, first, last = (text_of(config[role]) for role in ("unk_token", "cls_token", "sep_token"))
    try:
        model = models.WordPiece.from_file(str(path), unk_token=unknown)
    except Exception as problem:  # the library raises bare Exception for whatever is wrong in the file
        raise CheckpointError(f"{path}: not a whole vocabulary ({problem}); copy it again") from problem
    backend = tokenizers.Tokenizer(model)
    ids = _ids(backend, path, unknown, first, last)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config["tokenize_chinese_chars"],
        strip_accents=config["strip_accents"],
        lowercase=config["do_lower_case"],
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(token, ids[token]) for token in (first, last)],
    )
    return backend


def _byte_level(folder: Path, pipeline: str, config: dict[str, Any]) -> tokenizers.Tokenizer:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    prefix = bool(config.setdefault("add_prefix_space", False))
    try:
        backend = gpt2_pipeline(models.BPE.from_file(str(vocabulary), str(merges)), prefix)
    except Exception as problem:  # as above
        raise CheckpointError(
            f"{vocabulary} and {merges.name}: not a whole vocabulary ({problem}); copy both again"
        ) from problem
    if pipeline == "roberta":
        first, last = text_of(config["cls_token"]), text_of(config["sep_token"])
        ids = _ids(backend, vocabulary, first, last)
        backend.post_processor = processors.RobertaProcessing(
            (last, ids[last]),
            (first, ids[first]),
            trim_offsets=config.setdefault("trim_offsets", True),
            add_prefix_space=prefix,
        )
    elif pipeline == "qwen2":
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN2_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
            ]
        )
    return backend


# GPT-2's pattern with single digits, any case of 's and line breaks kept together.
# Source: Qwen2's tokenizer.json, https://huggingface.co/Qwen/Qwen2-7B
_QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def follow_config(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """Brings the options of a tokenizer.json in line with tokenizer_config.json, which transformers
    lets decide: BERT's treatment of case, accents and Chinese, and GPT-2's first space."""
    normalizer = backend.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        for key, attribute in (
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        ):
            if key in config:
                setattr(normalizer, attribute, config[key])
    if isinstance(config.get("add_prefix_space"), bool):
        for part in (*_parts(backend.pre_tokenizer), backend.post_processor):
            if isinstance(part, (pre_tokenizers.ByteLevel, processors.RobertaProcessing)):
                part.add_prefix_space = config["add_prefix_space"]


def begin_and_end(
    backend: tokenizers.Tokenizer, config: Mapping[str, Any], wishes: Mapping[str, Any]
) -> None:
    """Makes texts begin with the bos token and end with the eos token, or not.

    Args:
        config: names the tokens.
        wishes: `add_bos_token` and `add_eos_token`; what is not among them stays as it was.

    Raises: ConfigError when there is no such token.
    """
    single, tokens = ["$A"], []
    present = backend.encode("").ids
    for role, at_front in (("bos_token", True), ("eos_token", False)):
        token: str | None = config.get(role)
        token_id = None if token is None else backend.token_to_id(token)
        wanted = wishes.get(f"add_{role}")
        was_there = token_id is not None and present[:1] == [token_id]
        if at_front and was_there:
            present = present[1:]
        if not (was_there if wanted is None else wanted):
            continue
        if token is None or token_id is None:
            raise ConfigError(f"add_{role}=True: this tokenizer has no {role}; name one with {role}=...")
        tokens.append((token, token_id))
        single = [token, *single] if at_front else [*single, token]
    pair = [f"{piece}:0" for piece in single] + [f"{piece}:1" for piece in single]
    backend.post_processor = processors.TemplateProcessing(
        single=[f"{piece}:0" for piece in single],
        pair=[piece.replace("$A:1", "$B:1") for piece in pair],
        special_tokens=tokens,
    )


def _parts(pre_tokenizer: Any) -> list[Any]:
    if not isinstance(pre_tokenizer, pre_tokenizers.Sequence):
        return [pre_tokenizer]
    parts: list[Any] = []
    while True:
        try:
            parts.append(pre_tokenizer[len(parts)])
        except IndexError:  # the library's sequences have no length
            return parts


def _ids(backend: tokenizers.Tokenizer, path: Path, *tokens: str) -> dict[str, int]:
    """The ids of special tokens that a pipeline cannot do without."""
    ids = {token: backend.token_to_id(token) for token in tokens}
    missing = [token for token, token_id in ids.items() if token_id is None]
    if missing:
        raise CheckpointError(
            f"{path}: the special tokens {', '.join(missing)} are not in it; name the right ones in "
            "tokenizer_config.json, or copy the vocabulary again"
        )
    return {token: token_id for token, token_id in ids.items() if token_id is not None}
