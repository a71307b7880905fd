"""Chat templates against transformers'."""

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizer_files import assert_same, stock, write

from pymodel.errors import ConfigError, DataError
from pymodel.text import AutoTokenizer, Tokenizer

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "größer 😀?  "},
    {"role": "assistant", "content": "Yes, 東京.  "},
    {"role": "user", "content": "Why", "name": None},
]
ANSWERED: list[dict[str, Any]] = [*CHAT, {"role": "assistant", "content": "  The quick brown fox, because "}]
TOOLS = [{"type": "function", "function": {"name": "look<up>", "parameters": {"ü": [1, 2.5, None]}}}]
DOCUMENTS = [{"title": "A", "text": "B"}]

CHATML = """\
{% for message in messages %}
    {% if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\nhelp<|im_end|>\n' }}
    {% endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{% endif %}
"""
LLAMA = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
EVERYTHING = """\
{%- set ns = namespace(count=0) %}
{%- if tools %}
{{ tools | tojson }}
{{ tools[0] | tojson(indent=2) }}
{%- endif %}
{% for document in documents or [] %}
{{ document.title }}: {{ document.text }}
{% endfor %}
{{ mood | default('calm') }} {{ pad_token }}
{% for message in messages %}
    {% if message.role == 'tool' %}{% continue %}{% endif %}
    {% set ns.count = ns.count + 1 %}
    {% if message.name is defined %}named{% endif %}
    {{ ns.count }} {{ message | tojson }}
    {% if ns.count > 3 %}{% break %}{% endif %}
{% endfor %}
"""
GENERATION = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "<|a|>{% generation %}{{ message.content }}<|e|>{% endgeneration %}{% else %}"
    "<|u|>{{ message.content }}{% endif %}{% endfor %}"
)
REFUSING = "{{ raise_exception('roles must alternate: ' + messages[0].role) }}"
CONVERSATIONS = [CHAT, CHAT[:2], ANSWERED]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    folder = write(tmp_path_factory.mktemp("chat"), "llama", chat_template=CHATML)
    return AutoTokenizer.from_pretrained(folder), stock(folder)


@pytest.mark.parametrize("template", [None, LLAMA, EVERYTHING, GENERATION])
@pytest.mark.parametrize("prompt", [False, True])
def test_chat_as_text(both: tuple[Tokenizer, Any], template: str | None, prompt: bool) -> None:
    ours, theirs = both
    options: dict[str, Any] = {"chat_template": template, "add_generation_prompt": prompt, "tokenize": False}
    everything = {"tools": TOOLS, "documents": DOCUMENTS, "mood": "<merry>"}
    variables: list[dict[str, Any]] = [{}, everything, {"tools": []}]
    for more in variables:
        for chat in (CHAT, CONVERSATIONS):
            text = ours.apply_chat_template(chat, **options, **more)
            assert text == theirs.apply_chat_template(chat, **options, **more)


def test_chat_as_tokens(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    for options in (
        {"add_generation_prompt": True},
        {"padding": True},
        {"padding": "max_length", "truncation": True, "max_length": 30},
        {"tokenizer_kwargs": {"return_offsets_mapping": True}},
    ):
        for chat in (CHAT, CONVERSATIONS):
            assert_same(
                ours.apply_chat_template(chat, **options), theirs.apply_chat_template(chat, **options)
            )
    ids = ours.apply_chat_template(CHAT, return_dict=False)
    assert ids == ours.encode(ours.apply_chat_template(CHAT, tokenize=False), add_special_tokens=False)
    arrays = ours.apply_chat_template(CONVERSATIONS, padding=True, return_tensors="np")
    expected = theirs.apply_chat_template(CONVERSATIONS, padding=True, return_tensors="np")
    np.testing.assert_array_equal(arrays["input_ids"], expected["input_ids"])
    assert ours.apply_chat_template(CHAT, return_tensors="np")["input_ids"].shape == (1, len(ids))


@pytest.mark.parametrize("template", [None, LLAMA])
def test_chat_continues_the_last_message(both: tuple[Tokenizer, Any], template: str | None) -> None:
    ours, theirs = both
    options: dict[str, Any] = {"chat_template": template, "continue_final_message": True, "tokenize": False}
    for chat in (ANSWERED, CHAT[:3], CONVERSATIONS):
        assert ours.apply_chat_template(chat, **options) == theirs.apply_chat_template(chat, **options)
    assert ANSWERED[-1]["content"] == "  The quick brown fox, because "


def test_chat_continues_the_last_text_part(both: tuple[Tokenizer, Any]) -> None:
    template = "{% for m in messages %}{% for p in m.content %}{{ p.text }}|{% endfor %}{% endfor %}end"
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    chat = [{"role": "assistant", "content": parts}]
    for tokenizer in both:
        text = tokenizer.apply_chat_template(
            chat, chat_template=template, continue_final_message=True, tokenize=False
        )
        assert text == "one|two"
    with pytest.raises(DataError, match="expected text in the last message"):
        both[0].apply_chat_template([{"role": "user"}], continue_final_message=True)


def test_chat_masks_of_the_assistant(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    options: dict[str, Any] = {"chat_template": GENERATION, "return_assistant_tokens_mask": True}
    for chat in (ANSWERED, [ANSWERED, CHAT[:2], CHAT]):
        assert_same(ours.apply_chat_template(chat, **options), theirs.apply_chat_template(chat, **options))
    cut: dict[str, Any] = {
        "padding": "max_length",
        "truncation": True,
        "max_length": 40,
        "return_tensors": "np",
    }
    arrays = ours.apply_chat_template([ANSWERED, CHAT[:2]], **options, **cut)
    assert arrays["assistant_masks"].shape == arrays["input_ids"].shape == (2, 40)
    whole = ours.apply_chat_template(ANSWERED, **options)
    wrote = [i for i, mask in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if mask]
    assert "The quick brown fox" in ours.decode(wrote)
    assert "Why" not in ours.decode(wrote)


def test_chat_templates_in_files(tmp_path: Path) -> None:
    several = [{"name": "default", "template": LLAMA}, {"name": "tool_use", "template": EVERYTHING}]
    configs: list[dict[str, Any]] = [{"chat_template": CHATML}, {"chat_template": several}, {}]
    for number, config in enumerate(configs):
        folder = write(tmp_path / str(number), "llama", **config)
        if not config:
            (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
            (folder / "additional_chat_templates").mkdir()
            (folder / "additional_chat_templates" / "tool_use.jinja").write_text(EVERYTHING, encoding="utf-8")
        ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
        ours.save_pretrained(tmp_path / f"saved {number}")
        for other in (theirs, stock(tmp_path / f"saved {number}")):
            for tools in (None, TOOLS):
                assert ours.apply_chat_template(
                    CHAT, tools=tools, tokenize=False
                ) == other.apply_chat_template(CHAT, tools=tools, tokenize=False)
    named = ours.apply_chat_template(CHAT, chat_template="tool_use", tokenize=False)
    assert named == ours.apply_chat_template(CHAT, chat_template=EVERYTHING, tokenize=False)
    only_named = AutoTokenizer.from_pretrained(folder, chat_template={"a": LLAMA, "b": CHATML})
    with pytest.raises(ConfigError, match="this tokenizer has several; name one of a, b"):
        only_named.apply_chat_template(CHAT)


def test_chat_variables_have_any_name(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    text = ours.apply_chat_template(
        CHAT,
        chat_template="{{ template }} {{ variables }} {{ messages[0].role }}",
        tokenize=False,
        template="a",
        variables="b",
        messages="c",
    )
    assert text == "a b system"


def test_chat_template_knows_the_date(both: tuple[Tokenizer, Any]) -> None:
    text = both[0].apply_chat_template(CHAT, chat_template="{{ strftime_now('%Y') }}", tokenize=False)
    assert text == str(datetime.datetime.now().year)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.getcwd() }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_chat_template_is_kept_in_its_sandbox(both: tuple[Tokenizer, Any], template: str) -> None:
    with pytest.raises(DataError, match="the chat template does not take these messages"):
        both[0].apply_chat_template(CHAT, chat_template=template)


def test_chat_bad_input_is_an_error(both: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, _ = both
    for chat, options, error, message in (
        (CHAT, {"chat_template": REFUSING}, DataError, "roles must alternate: system"),
        (CHAT, {"chat_template": "a\n{% if %}"}, ConfigError, "chat template, line 2: .* it is no Jinja"),
        (CHAT, {"chat_template": "{{ 'a' + 1 }}"}, DataError, "does not take these messages"),
        (CHAT, {"continue_final_message": True, "add_generation_prompt": True}, ConfigError, "choose one"),
        (CHAT, {"continue_final_message": True, "chat_template": "x"}, DataError, "leaves out the end"),
        ([], {}, DataError, "messages: expected at least one, got none"),
        (["hello"], {}, DataError, "message 0: expected a dict with a role and its content, got 'hello'"),
        ([{"content": "a"}], {}, DataError, "message 0: expected a dict with a role"),
    ):
        with pytest.raises(error, match=message):
            ours.apply_chat_template(chat, **options)
    with pytest.raises(ConfigError, match="this tokenizer has no chat template; give apply_chat_template"):
        AutoTokenizer.from_pretrained(write(tmp_path, "llama")).apply_chat_template(CHAT)


def test_chat_without_jinja_says_what_to_install(
    both: tuple[Tokenizer, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"needs jinja2.*pip install 'pymodel-lm\[chat\]'"):
        both[0].apply_chat_template(CHAT, chat_template="a template that nobody compiled yet")
