"""Byte-level byte-pair encoding: trained here, stored in the files that Hugging Face's libraries read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

from pymodel.errors import CheckpointError, ConfigError, DataError
from pymodel.files import atomic_file

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


class Tokenizer:
    """Text to token ids and back, losslessly for any UTF-8 text when trained here.

    Text is cut into words, numbers, punctuation and white space by GPT-2's pattern, each piece is spelled in
    bytes, and pairs of neighbouring tokens are merged in the order in which training found them.
    Source: Sennrich et al. 2016 (arXiv:1508.07909); on bytes, Radford et al. 2019, section 2.2.

    Args:
        backend: a tokenizer of the `tokenizers` library.
        config: what `tokenizer_config.json` holds: `eos_token`, `bos_token`, `pad_token` and whatever else
            is to be kept when it is saved again.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, Any] | None = None) -> None:
        # Padding and truncation set in a foreign file would silently change what `encode` returns.
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._config = dict(config or {})
        # The ids may have holes: an embedding needs a row for the highest one.
        self._size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        show_progress: bool = False,
    ) -> Tokenizer:
        """Learn the merges from text; the same texts always give the same tokenizer.

        Args:
            texts: any iterable of strings; read once, never held whole (the distinct words are).
            vocab_size: tokens wanted in all. Text with too few repeated pairs gives fewer: ask the result.
            special_tokens: take the first ids, in this order. The first of them ends and begins a text.
            show_progress: the library's own progress bars on stderr.

        Returns:
            A tokenizer with all 256 bytes in its vocabulary.

        Raises:
            ConfigError: vocab_size has no room for the bytes and the special tokens, or there is none.
            DataError: there is no text.
        """
        smallest = 256 + len(set(special_tokens))
        if not special_tokens or not all(special_tokens):
            raise ConfigError(
                f"special_tokens: expected at least one, none of them empty, got {tuple(special_tokens)!r}; "
                f"the first one ends a text, as {END_OF_TEXT} does"
            )
        if vocab_size < smallest:
            raise ConfigError(
                f"vocab_size: expected at least {smallest} (256 bytes and {smallest - 256} special tokens), "
                f"got {vocab_size}"
            )
        backend = _gpt2_pipeline(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,  # a pair seen once stands for nothing but the place it was seen at
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
            # Bytes the text never shows are in the vocabulary all the same: any prompt can be encoded.
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=show_progress,
        )
        backend.train_from_iterator(_at_least_one(texts), trainer)
        return cls(backend, _default_config(special_tokens[0]))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Tokenizer:
        """Read `tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`, from a model folder.

        Args:
            folder: a folder written by `save`, or one of Hugging Face's.

        Raises:
            CheckpointError: the folder or its files are missing, truncated or of another format.
        """
        path = Path(folder)
        if (path / TOKENIZER_FILE).is_file():
            backend = _read_backend(path / TOKENIZER_FILE)
        elif (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            backend = _read_gpt2_files(path)
        else:
            reason = f"no {TOKENIZER_FILE} in it" if path.is_dir() else "no such folder"
            raise CheckpointError(f"{path}: {reason}; name a model folder that holds a tokenizer")
        return cls(backend, _read_config(path, backend))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`; transformers' AutoTokenizer reads them.

        Raises:
            CheckpointError: the files cannot be written; earlier ones are then unchanged.
        """
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30} | self._config
        for name, content in (
            (TOKENIZER_FILE, self._backend.to_str(pretty=True)),
            (CONFIG_FILE, _json(config)),
        ):
            with atomic_file(Path(folder) / name, CheckpointError) as stream:
                stream.write(content.encode())

    save_pretrained = save

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The token ids of one text.

        Args:
            text: any text. A special token written out in it becomes that token's id.
            add_special_tokens: let the file's template add its own (BERT's `[CLS]`); GPT-2 has none.

        Raises:
            DataError: the text cannot be written in UTF-8 (lone surrogates).
        """
        return self.encode_batch([text], add_special_tokens)[0]

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """The token ids of several texts, on all the cores; see `encode`."""
        for number, text in enumerate(texts):
            _check_text(text, number)
        # Without character offsets, which nobody asked for, encoding is faster; tokenizers 0.19 lacks it.
        encode = getattr(self._backend, "encode_batch_fast", self._backend.encode_batch)
        return [item.ids for item in encode(list(texts), add_special_tokens=add_special_tokens)]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of a sequence of ids (a list or a one-dimensional array).

        Ids beyond the vocabulary (rows that pad a model's embedding) add nothing. Bytes that are no UTF-8,
        such as the first half of a character, come out as U+FFFD.

        Raises:
            DataError: an id is negative, as the -100 of masked labels is.
        """
        numbers = [int(token_id) for token_id in ids]
        if numbers and min(numbers) < 0:
            raise DataError(
                f"decode: expected token ids of 0 or more, got {min(numbers)}; drop masked labels first"
            )
        return self._backend.decode(numbers, skip_special_tokens=skip_special_tokens)

    def token(self, token_id: int) -> str | None:
        """How the vocabulary spells an id, None when it has no such id."""
        return self._backend.id_to_token(token_id)

    def token_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it, None when it is not in there."""
        return self._backend.token_to_id(token)

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the highest id plus one, special tokens included."""
        return self._size

    def __len__(self) -> int:
        return self._size

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        return self._config.get("eos_token")

    @property
    def bos_token(self) -> str | None:
        """The token that begins a text; with GPT-2 the one that ended the text before."""
        return self._config.get("bos_token")

    @property
    def pad_token(self) -> str | None:
        """The token that fills a batch of unequal lengths."""
        return self._config.get("pad_token")

    @property
    def eos_token_id(self) -> int | None:
        """The id of `eos_token`."""
        return self._id_of(self.eos_token)

    @property
    def bos_token_id(self) -> int | None:
        """The id of `bos_token`."""
        return self._id_of(self.bos_token)

    @property
    def pad_token_id(self) -> int | None:
        """The id of `pad_token`."""
        return self._id_of(self.pad_token)

    def _id_of(self, token: str | None) -> int | None:
        return None if token is None else self.token_id(token)

    @cached_property
    def special_token_ids(self) -> frozenset[int]:
        """The ids that `skip_special_tokens` leaves out."""
        added = self._backend.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @property
    def is_byte_level(self) -> bool:
        """Whether the tokens are spelled in GPT-2's byte alphabet."""
        return isinstance(self._backend.decoder, decoders.ByteLevel)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides the ids; token files carry it."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token={self.eos_token!r})"


def _gpt2_pipeline(model: models.BPE) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def _default_config(end: str) -> dict[str, Any]:
    return {
        "add_prefix_space": False,
        "bos_token": end,
        "clean_up_tokenization_spaces": False,  # or transformers' decode would change " ," to ","
        "eos_token": end,
        "pad_token": end,
    }


def _at_least_one(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on; a tokenizer of no text at all is a mistake that shows much later."""
    empty = True
    for number, text in enumerate(texts):
        _check_text(text, number)
        empty = empty and not text
        yield text
    if empty:
        raise DataError("training a tokenizer: expected some text, got none; check the data's path")


def _check_text(text: object, number: int) -> None:
    if not isinstance(text, str):
        raise DataError(
            f"text {number}: expected a str, got {type(text).__name__}; decode bytes as UTF-8 first"
        )
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise DataError(
            f"text {number}: expected text that UTF-8 can hold, got a lone surrogate at character "
            f"{problem.start}; the bytes it was read from were not UTF-8"
        ) from None


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises bare Exception for whatever is wrong in the file
        raise CheckpointError(
            f"{path}: not a whole tokenizer file ({problem}); copy it again or train the tokenizer anew"
        ) from problem


def _read_gpt2_files(folder: Path) -> tokenizers.Tokenizer:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    try:
        backend = _gpt2_pipeline(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as problem:  # as above
        raise CheckpointError(
            f"{vocabulary} and {merges.name}: not a whole vocabulary ({problem}); copy both again"
        ) from problem
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


def _read_config(folder: Path, backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """What is known of the special tokens: of two files, or by GPT-2's name when neither is there."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", CONFIG_FILE):
        config |= _read_json(folder / name)
    for name in ("eos_token", "bos_token", "pad_token", "unk_token"):
        # A token may be stored with its stripping rules; the backend has those already.
        if isinstance(config.get(name), dict):
            config[name] = config[name].get("content")
    if config.get("eos_token") is None and backend.token_to_id(END_OF_TEXT) is not None:
        config = _default_config(END_OF_TEXT) | {
            key: value for key, value in config.items() if value is not None
        }
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path}: cannot be read as JSON ({problem}); copy it again") from problem
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}; copy it again")
    return content


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
