"""Text to token ids and back, with Hugging Face's files, names and options."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from pymodel.errors import ConfigError
from pymodel.hub import TOKENIZER_FILES, resolve_folder
from pymodel.text.chat import choose_template, render_chat
from pymodel.text.conversation import encode_chats
from pymodel.text.encoder import TextEncoder
from pymodel.text.families import END_OF_TEXT
from pymodel.text.files import TokenizerParts, check_changes, default_config, read_tokenizer, write_tokenizer
from pymodel.text.options import options_of
from pymodel.text.settings import Setting
from pymodel.text.training import train_byte_level

_CHAT_CALL_OPTIONS = ("padding", "truncation", "max_length", "return_tensors")


class Tokenizer(TextEncoder):
    """Text to token ids and back; calling it makes a model's inputs.

    `train` makes one that is lossless for any UTF-8 text, `from_pretrained` reads one of any kind that
    the `tokenizers` library knows.

    Args:
        backend: a tokenizer of the `tokenizers` library.
        config: what `tokenizer_config.json` holds: `eos_token`, `bos_token`, `pad_token` and whatever else
            is to be kept when it is saved again.
        target: another backend of the same vocabulary, for `text_target`.
        files: content by name of files that are saved instead of the backends.
    """

    chat_template: Setting[str | Mapping[str, str] | None] = Setting(None)

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: Mapping[str, Any] | None = None,
        target: tokenizers.Tokenizer | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__(backend, config, target)
        self._files = dict(files or {})

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
                GPT-2's and RoBERTa's `vocab.json` and `merges.txt`, or Marian's `source.spm`, `target.spm`
                and `vocab.json`.
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
        parts = read_tokenizer(folder, changes)
        return cls(parts.backend, parts.config, parts.target, parts.files)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, and chat templates into files of their own;
        transformers' AutoTokenizer reads them.

        Raises:
            CheckpointError: the files cannot be written; earlier ones are then unchanged.
        """
        with self.lock:
            write_tokenizer(Path(folder), TokenizerParts(self._backend, self._config, files=self._files))

    save = save_pretrained

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
            render_chat(template, messages, variables, continue_final_message)
            for messages in (conversation if batched else [conversation])
        ]
        if not tokenize:
            return [chat.text for chat in chats] if batched else chats[0].text
        # The template writes the special tokens itself.
        chosen = options_of({"add_special_tokens": False, **call, **(tokenizer_kwargs or {})})
        encoded = encode_chats(self, chats, batched, chosen, return_assistant_tokens_mask)
        return encoded if return_dict else encoded["input_ids"]

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy and pickle: a lock is neither copied nor pickled."""
        target = None if self._target is None else self._target.backend_tokenizer
        return type(self), (self._backend, self._config, target, self._files)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token={self.eos_token!r})"


AutoTokenizer = Tokenizer  # the name under which transformers' users look for `from_pretrained`
