"""Conversations to text, by the Jinja template that a chat model was trained with.

Templates come with checkpoints, so they are code of strangers: they run in Jinja's sandbox, which
reaches no attribute with an underscore and changes nothing it is given.

Source: https://huggingface.co/docs/transformers/main/en/chat_templating
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pymodel.errors import ConfigError, DataError

# Code points that Unicode keeps for a program's own use. They mark what a template writes inside
# {% generation %}, and the end of a message that is to be continued.
_BEGIN, _END, _CUT = "\ufdd0", "\ufdd1", "\ufdd2"


class Rendered(NamedTuple):
    """A conversation as text, and the characters (start, end) that the assistant wrote in it."""

    text: str
    assistant_spans: list[tuple[int, int]]


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
    continue_final_message: bool = False,
) -> Rendered:
    """A conversation as text.

    Args:
        template: Jinja source.
        messages: mappings with `role`, `content` and what else the template reads.
        variables: what the template may read besides: `tools`, `add_generation_prompt`, `bos_token`, ...
        continue_final_message: leave out what the template writes behind the last message's content.

    Raises:
        ConfigError: jinja2 is not installed, or the template is no Jinja.
        DataError: the template refuses the messages, or they are none.
    """
    chat = [_message(number, message) for number, message in enumerate(messages)]
    if not chat:
        raise DataError("messages: expected at least one, got none")
    if continue_final_message:
        _mark_end(chat[-1])
    compiled = _compiled(template)
    from jinja2 import TemplateError

    try:
        text = compiled.render({**variables, "messages": chat})
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        raise DataError(
            f"the chat template does not take these messages: {problem}; look at their roles and contents"
        ) from problem
    return _spans(_cut(text) if continue_final_message else text)


def choose_template(templates: str | Mapping[str, str] | None, wanted: str | None, with_tools: bool) -> str:
    """The template to use.

    Args:
        templates: a tokenizer's only one, or several by name.
        wanted: the name of one of them, or Jinja source.
        with_tools: prefer the one called `tool_use`.

    Raises: ConfigError when there is none.
    """
    named = {"default": templates} if isinstance(templates, str) else dict(templates or {})
    if wanted is not None:
        return named.get(wanted, wanted) if isinstance(templates, Mapping) else wanted
    if with_tools and "tool_use" in named:
        return named["tool_use"]
    if "default" in named:
        return named["default"]
    if named:
        raise ConfigError(f"chat_template: this tokenizer has several; name one of {', '.join(named)}")
    raise ConfigError(
        "this tokenizer has no chat template; give apply_chat_template one as chat_template=, or use the "
        "tokenizer of a model made for chat"
    )


def _message(number: int, message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping) or "role" not in message:
        raise DataError(f"message {number}: expected a dict with a role and its content, got {message!r}")
    # Other programs write None where something is absent; templates only know absence.
    return {name: value for name, value in message.items() if value is not None}


def _mark_end(message: dict[str, Any]) -> None:
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content + _CUT + " "
        return
    texts = [part for part in content or [] if isinstance(part, Mapping) and "text" in part]
    if not texts:
        raise DataError("continue_final_message: expected text in the last message, got none")
    marked = {**texts[-1], "text": texts[-1]["text"] + _CUT + " "}
    message["content"] = [marked if part is texts[-1] else part for part in content or []]


def _cut(text: str) -> str:
    end = text.rfind(_CUT)
    if end < 0:
        raise DataError("continue_final_message: the chat template leaves out the end of the last message")
    # Where the template strips contents, the space behind the mark is gone: then so are the content's own.
    kept = text[end + 1 : end + 2] == " "
    return text[:end] if kept else text[:end].rstrip()


def _spans(text: str) -> Rendered:
    """Takes the marks out of a text and says where they were."""
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    length, start = 0, 0
    for piece in text.replace(_END, _BEGIN + _END).split(_BEGIN):
        if piece.startswith(_END):
            spans.append((start, length))
            piece = piece[1:]
        start = length
        pieces.append(piece)
        length += len(piece)
    return Rendered("".join(pieces), spans)


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    try:
        import jinja2
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ConfigError(
            "apply_chat_template: needs jinja2, which is not installed; pip install 'pymodel-lm[chat]'"
        ) from None

    class Generation(Extension):
        """{% generation %} ... {% endgeneration %}: what the assistant writes, between marks."""

        tags = {"generation"}  # noqa: RUF012 (Jinja's own attribute)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Any) -> str:
            return _BEGIN + str(caller()) + _END

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(template)
    except jinja2.TemplateSyntaxError as problem:
        raise ConfigError(f"chat template, line {problem.lineno}: {problem}; it is no Jinja") from problem


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as a model was shown it: Jinja's own filter would write HTML's `&` and `<` in escapes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    """How a template refuses a conversation."""
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
