"""Text to token ids and back, with Hugging Face's files, names and options."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers

from pymodel.errors import ConfigError
from pymodel.hub import TOKENIZER_FILES, resolve_folder
from pymodel.text.batch_encoding import BatchEncoding
from pymodel.text.calling import encode_call
from pymodel.text.chat import choose_template, render_chat
from pymodel.text.conversation import encode_chats
from pymodel.text.families import END_OF_TEXT
from pymodel.text.files import check_changes, default_config, read_tokenizer, write_tokenizer
from pymodel.text.options import SIDES, EncodingOptions, options_of
from pymodel.text.padding import pad_examples
from pymodel.text.samples import check_text
from pymodel.text.settings import Setting
from pymodel.text.training import train_byte_level
from pymodel.text.vocabulary import Vocabulary

_CHAT_CALL_OPTIONS = ("padding", "truncation", "max_length", "return_tensors")


class Tokenizer(Vocabulary):
    """Text to token ids and back; calling it makes a model's inputs.

    `train` makes one that is lossless for any UTF-8 text, `from_pretrained` reads one of any kind that
    the `tokenizers` library knows.

    Args:
        backend: a tokenizer of the `tokenizers` library.
        config: what `tokenizer_config.json` holds: `eos_token`, `bos_token`, `pad_token` and whatever else
            is to be kept when it is saved again.
    """

    padding_side: Setting[str] = Setting("right", SIDES)
    truncation_side: Setting[str] = Setting("right", SIDES)
    model_max_length: Setting[int] = Setting(10**30)
    model_input_names: Setting[Sequence[str]] = Setting(("input_ids", "attention_mask"))
    chat_template: Setting[str | Mapping[str, str] | None] = Setting(None)
    pad_token_type_id = 0

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(backend, config)
        # Padding and truncation set in a foreign file would silently change what `encode` returns.
        backend.no_padding()
        backend.no_truncation()
        self._lock = threading.RLock()
        for name in ("padding_side", "truncation_side"):
            setattr(self, name, getattr(self, name))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        show_progress: bool = False,
    ) -> Tokenizer:
        """Learn the merges of a byte-level tokenizer; the same texts always give the same one.

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
        backend = train_byte_level(texts, vocab_size, special_tokens, show_progress)
        return cls(backend, default_config(special_tokens[0]))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        **changes: Any,
    ) -> Tokenizer:
        """Read the tokenizer of a model.

        Args:
            name: a folder, or a repository of the hub. It holds `tokenizer.json`, or BERT's `vocab.txt`, or
                GPT-2's and RoBERTa's `vocab.json` and `merges.txt`.
            revision, local_files_only: which state of a repository, and whether only the cache is asked.
            changes: what to set otherwise than the files do, such as `padding_side`, `model_max_length`,
                `pad_token`, `add_prefix_space`, `add_eos_token`.

        Raises:
            CheckpointError: the folder or its files are missing, truncated or of another format.
            ConfigError: a change that is unknown, or has a value that makes no sense.
        """
        check_changes(changes)
        folder = resolve_folder(
            name, revision=revision, local_files_only=local_files_only, patterns=TOKENIZER_FILES
        )
        return cls(*read_tokenizer(folder, changes))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, and chat templates into files of their own;
        transformers' AutoTokenizer reads them.

        Raises:
            CheckpointError: the files cannot be written; earlier ones are then unchanged.
        """
        with self._lock:
            write_tokenizer(Path(folder), self._backend, self._config)

    save = save_pretrained

    def __call__(
        self, text: Any = None, text_pair: Any = None, text_target: Any = None, **options: Any
    ) -> BatchEncoding:
        """The inputs of a model.

        Args:
            text: a text, or a list of them for a batch. A text is a string, or a list of words with
                `is_split_into_words=True`.
            text_pair: what follows each text in its row, in the same form as `text`.
            text_target: texts whose ids become the column `labels`; without `text`, the texts of the rows.
            options: those of `EncodingOptions`: padding, truncation, max_length, return_tensors and so on.

        Returns:
            Columns such as `input_ids`: a list of rows each, one row for a single text; arrays of
            (batch, tokens) with `return_tensors`.

        Raises:
            ConfigError: an option that does not exist, or that this tokenizer or length does not allow.
            DataError: texts of the wrong type or form, or not in UTF-8.
        """
        chosen = options_of(options)
        if text is None and text_target is not None:
            return encode_call(self, text_target, text_pair, chosen)
        encoded = encode_call(self, text, text_pair, chosen)
        if text_target is not None:
            encoded["labels"] = encode_call(self, text_target, None, chosen)["input_ids"]
        return encoded

    def encode(
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **options: Any
    ) -> list[int]:
        """The token ids of one text, or of a pair.

        Args:
            text: any text. A special token written out in it becomes that token's id.
            text_pair: what follows it.
            add_special_tokens: let the file's template add its own (BERT's `[CLS]`); GPT-2 has none.
            options: as of a call; with `return_tensors` the ids are an array of (1, tokens).

        Raises:
            DataError: the text cannot be written in UTF-8 (lone surrogates).
        """
        if text_pair is None and not options:
            return self.encode_batch([text], add_special_tokens)[0]
        ids: list[int] = self(text, text_pair, add_special_tokens=add_special_tokens, **options)["input_ids"]
        return ids

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """The token ids of several texts, on all the cores, and nothing else: faster than a call."""
        for number, text in enumerate(texts):
            check_text(text, number)
        with self._lock:
            # Without character offsets, which nobody asked for.
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text, as the vocabulary spells them."""
        return encode_call(self, text, pair, EncodingOptions(add_special_tokens=add_special_tokens)).tokens()

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens the template adds to a text, or to a pair."""
        return int(self._backend.num_special_tokens_to_add(pair))

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Bring rows that are tokens already to one length.

        Args:
            encoded_inputs: columns of rows, as a call returns them, or a list of rows with their columns.
                `input_ids`, `attention_mask`, `token_type_ids` and `special_tokens_mask` are padded, other
                columns are passed on.
            padding, max_length, pad_to_multiple_of, padding_side, return_attention_mask, return_tensors:
                as of a call. Rows that are arrays come back as arrays.

        Raises:
            ConfigError: as of a call.
            DataError: there is no column `input_ids`, or columns do not fit together.
        """
        options = EncodingOptions(
            padding=padding,
            truncation=False,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )
        return pad_examples(self, encoded_inputs, options)

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """A conversation as a chat model was trained to read it.

        Args:
            conversation: messages, {"role": ..., "content": ...} each, or a list of conversations.
            tools: JSON schemas of functions that the model may call.
            documents: {"title": ..., "text": ...} each, where the template reads them.
            chat_template: Jinja source, or the name of one of the tokenizer's templates.
            add_generation_prompt: end with what begins an answer of the assistant.
            continue_final_message: end inside the last message, for the model to go on with it.
            tokenize: give tokens; without it, text.
            return_dict: give all columns of a call; without it, the ids alone.
            return_assistant_tokens_mask: add the column `assistant_masks`, 1 for tokens that the template
                writes inside {% generation %}.
            tokenizer_kwargs: options of the call.
            options: `padding`, `truncation`, `max_length` and `return_tensors` of the call; everything else
                is a variable of the template.

        Raises:
            ConfigError: there is no template, it is no Jinja, or jinja2 is not installed.
            DataError: the template refuses the messages.
        """
        if continue_final_message and add_generation_prompt:
            raise ConfigError(
                "continue_final_message goes on with the last message, add_generation_prompt begins "
                "another one; choose one of them"
            )
        template = choose_template(self.chat_template, chat_template, with_tools=tools is not None)
        call = {name: options.pop(name) for name in _CHAT_CALL_OPTIONS if name in options}
        variables = {
            **self.special_tokens_map,
            **options,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        chats = [
            render_chat(template, messages, continue_final_message, **variables)
            for messages in (conversation if batched else [conversation])
        ]
        if not tokenize:
            return [chat.text for chat in chats] if batched else chats[0].text
        # The template writes the special tokens itself.
        chosen = options_of({"add_special_tokens": False, **call, **(tokenizer_kwargs or {})})
        encoded = encode_chats(self, chats, batched, chosen, return_assistant_tokens_mask)
        return encoded if return_dict else encoded["input_ids"]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps other threads from tokenizing: padding and truncation are state of the backend."""
        with self._lock:
            yield

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy and pickle: a lock is neither copied nor pickled."""
        return type(self), (self._backend, self._config)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token={self.eos_token!r})"


AutoTokenizer = Tokenizer  # the name under which transformers' users look for `from_pretrained`
