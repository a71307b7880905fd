"""Attributes of a tokenizer that are kept in its configuration, so that saving it keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pymodel.errors import ConfigError

if TYPE_CHECKING:
    from pymodel.text.vocabulary import Vocabulary

# In the order in which transformers lists them.
TOKEN_ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """A value of `tokenizer_config.json` as an attribute.

    Args:
        default: its value where the file has none.
        choices: what it may be; anything when empty.

    Raises: ConfigError when it is set to something else.
    """

    def __init__(self, default: Value, choices: tuple[Value, ...] = ()) -> None:
        self.default = default
        self.choices = choices

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, tokenizer: None, owner: type) -> Setting[Value]: ...
    @overload
    def __get__(self, tokenizer: Vocabulary, owner: type) -> Value: ...
    def __get__(self, tokenizer: Vocabulary | None, owner: type) -> Setting[Value] | Value:
        if tokenizer is None:
            return self
        value: Value | None = tokenizer._config.get(self.name)
        return self.default if value is None else value

    def __set__(self, tokenizer: Vocabulary, value: Value) -> None:
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.name} must be one of {', '.join(map(repr, self.choices))}; got {value!r}"
            )
        tokenizer._config[self.name] = value


class NamedToken:
    """The special token of a role such as `pad_token`, None when there is none.

    Raises: ConfigError when it is set to a token that the vocabulary lacks.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, tokenizer: None, owner: type) -> NamedToken: ...
    @overload
    def __get__(self, tokenizer: Vocabulary, owner: type) -> str | None: ...
    def __get__(self, tokenizer: Vocabulary | None, owner: type) -> NamedToken | str | None:
        return self if tokenizer is None else tokenizer._config.get(self.name)

    def __set__(self, tokenizer: Vocabulary, token: Any) -> None:
        # An AddedToken of the `tokenizers` library names its text `content`.
        text = getattr(token, "content", token)
        if text is not None and tokenizer.token_id(text) is None:
            raise ConfigError(
                f"{self.name}: expected a token of the vocabulary, got {text!r}; add a new one with "
                f"add_special_tokens({{{self.name!r}: {text!r}}})"
            )
        tokenizer._config[self.name] = text


class NamedTokenId:
    """The id of the token whose role the attribute's name begins with: `pad_token_id` of `pad_token`.

    Raises: ConfigError when it is set to an id that the vocabulary lacks.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.role = name.removesuffix("_id")

    @overload
    def __get__(self, tokenizer: None, owner: type) -> NamedTokenId: ...
    @overload
    def __get__(self, tokenizer: Vocabulary, owner: type) -> int | None: ...
    def __get__(self, tokenizer: Vocabulary | None, owner: type) -> NamedTokenId | int | None:
        if tokenizer is None:
            return self
        token = tokenizer._config.get(self.role)
        return None if token is None else tokenizer.token_id(token)

    def __set__(self, tokenizer: Vocabulary, token_id: int | None) -> None:
        token = None if token_id is None else tokenizer.token(token_id)
        if token is None and token_id is not None:
            raise ConfigError(f"{self.name}: expected an id below {len(tokenizer)}, got {token_id!r}")
        tokenizer._config[self.role] = token
