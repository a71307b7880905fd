"""Classes of texts and of the tokens in them, by trained classifiers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers

from pymodel.autograd import no_grad
from pymodel.errors import ConfigError
from pymodel.hub import resolve_folder
from pymodel.inference.texts import Text, TextRunner
from pymodel.models import from_pretrained
from pymodel.models.heads import TextClassifier, TokenClassifier
from pymodel.models.losses import MULTI_LABEL, REGRESSION
from pymodel.nn import packed_weights
from pymodel.text import AutoTokenizer, Tokenizer

OUTSIDE = "O"  # the class of tokens that are part of nothing


@dataclasses.dataclass(frozen=True)
class LabelScore:
    """A class and its probability; of a regression the number itself."""

    label: str
    score: float


@dataclasses.dataclass(frozen=True)
class Entity:
    """A stretch of a text that a class was found for.

    label: the class, without the B- and I- that mark beginnings.
    score: the mean probability of its tokens.
    start, end: its characters, the end excluded.
    text: those characters.
    """

    label: str
    score: float
    start: int
    end: int
    text: str


class TextClassification(TextRunner):
    """Tells the classes of texts.

    Args:
        model: an encoder with a head for texts.
        tokenizer: the one that the model was trained with.

    Raises: ConfigError for a model of another kind.
    """

    model: TextClassifier

    def __init__(self, model: TextClassifier, tokenizer: Tokenizer) -> None:
        if not isinstance(model, TextClassifier):
            raise ConfigError(f"model must classify texts, got {type(model).__name__}")
        super().__init__(model, tokenizer)

    def __call__(self, texts: Sequence[Text], batch_size: int = 32) -> list[list[LabelScore]]:
        """All classes of every text, the likeliest first.

        Probabilities of single labels add up to 1; those of several labels (the configuration's
        problem_type), and of a single class, are each by itself.

        Args:
            texts: in any order, cut to what the model takes; pairs for models of pairs.
            batch_size: texts that the model sees at once.

        Raises: ConfigError for batch_size; DataError for what is no text.
        """
        found: list[list[LabelScore]] = [[] for _ in texts]
        labels = self.model.config.id2label
        with no_grad(), packed_weights(self.model):
            for batch in self.batches(texts, batch_size):
                scores = self._scores(self.model(**batch.inputs).logits.to("float32").numpy())
                for row, values in zip(batch.rows, scores, strict=True):
                    order = np.argsort(-values, kind="stable")
                    found[row] = [LabelScore(labels[int(n)], float(values[n])) for n in order]
        return found

    def _scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities, as transformers' pipeline makes them of (batch, num_labels) logits."""
        problem = self.model.config.problem_type
        if problem == REGRESSION:
            return logits
        if problem == MULTI_LABEL or logits.shape[1] == 1:
            each: np.ndarray = 1.0 / (1.0 + np.exp(-logits))
            return each
        return _softmax(logits)


class EntityRecognition(TextRunner):
    """Finds the stretches of a text that belong to classes, such as names of people and places.

    Args:
        model: an encoder with a head for tokens.
        tokenizer: the one that the model was trained with.

    Raises: ConfigError for a model of another kind.
    """

    model: TokenClassifier

    def __init__(self, model: TokenClassifier, tokenizer: Tokenizer) -> None:
        if not isinstance(model, TokenClassifier):
            raise ConfigError(f"model must classify tokens, got {type(model).__name__}")
        super().__init__(model, tokenizer)

    def __call__(self, texts: Sequence[str], batch_size: int = 32) -> list[list[Entity]]:
        """The entities of every text, in their order: neighbouring tokens of one class, of which none
        but the first begins with B-. Tokens of class "O" are part of nothing.

        Args:
            texts: in any order, cut to what the model takes.
            batch_size: texts that the model sees at once.

        Raises: ConfigError for batch_size; DataError for what is no text.
        """
        found: list[list[Entity]] = [[] for _ in texts]
        with no_grad(), packed_weights(self.model):
            for batch in self.batches(texts, batch_size):
                logits = self.model(**batch.inputs, padding_is_read=False).logits.to("float32").numpy()
                for row, values, encoding in zip(batch.rows, _softmax(logits), batch.encodings, strict=True):
                    found[row] = list(self._entities(texts[row], values, encoding))
        return found

    def _entities(self, text: str, scores: np.ndarray, encoding: tokenizers.Encoding) -> Iterator[Entity]:
        """Groups a text's tokens, (sequence, num_labels) probabilities, as transformers' pipeline does
        with aggregation_strategy "simple"."""
        tag, members = OUTSIDE, list[int]()
        best = scores.argmax(axis=1)
        for place, special in enumerate(encoding.special_tokens_mask):
            if special:
                continue
            begins, new_tag = _tag(self.model.config.id2label[int(best[place])])
            if members and (begins or new_tag != tag):
                yield from _entity(text, tag, members, scores, encoding)
                members = []
            tag, members = new_tag, [*members, place]
        if members:
            yield from _entity(text, tag, members, scores, encoding)


def load_classifier(
    name: str | os.PathLike[str],
    dtype: str | None = None,
    device: str | None = None,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
) -> TextClassification | EntityRecognition:
    """Reads a classifier of texts or of tokens, whichever the folder holds, with its tokenizer.

    Args and errors: as `PretrainedModel.from_pretrained`; ConfigError for a model that is no classifier.
    """
    folder = resolve_folder(name, revision=revision, local_files_only=local_files_only)
    model: Any = from_pretrained(folder, dtype, device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if isinstance(model, TokenClassifier):
        return EntityRecognition(model, tokenizer)
    if isinstance(model, TextClassifier):
        return TextClassification(model, tokenizer)
    raise ConfigError(
        f"{folder}: holds a {type(model).__name__}, which is no classifier; expected a model saved as "
        "...ForSequenceClassification or ...ForTokenClassification"
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and of which class."""
    begin, _, rest = label.partition("-")
    return (begin == "B", rest) if begin in ("B", "I") and rest else (False, label)


def _entity(
    text: str, tag: str, members: list[int], scores: np.ndarray, encoding: tokenizers.Encoding
) -> Iterator[Entity]:
    if tag == OUTSIDE:
        return
    start, end = encoding.offsets[members[0]][0], encoding.offsets[members[-1]][1]
    score = float(scores[members].max(axis=1).mean())
    yield Entity(tag, score, start, end, text[start:end])
