"""Sentences as vectors whose cosine says how close their meanings are, by MiniLM and its kin.

Source: Reimers and Gurevych, "Sentence-BERT", arXiv:1908.10084.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pymodel import ops
from pymodel.autograd import no_grad
from pymodel.errors import ConfigError
from pymodel.hub import resolve_folder
from pymodel.inference.sentence_files import FOLDER_FILES, read_settings
from pymodel.inference.texts import Text, TextBatch, TextRunner
from pymodel.models import AutoModel, EncoderModel
from pymodel.nn import packed_weights
from pymodel.tensor import Tensor, tensor
from pymodel.text import AutoTokenizer, Tokenizer

Pooling = Literal["mean", "cls"]
_SMALLEST_NORM = 1e-12  # a vector of zeros stays one


class SentenceEncoder(TextRunner):
    """Vectors of sentences.

    Args:
        model: a bare encoder.
        tokenizer: the one that the model was trained with.
        pooling: "mean" of a sentence's tokens, or "cls", its first token.
        normalize: whether vectors get length 1.
        max_length: of sentences, in tokens, which are cut there; None for as much as the model takes.

    Raises: ConfigError for arguments that do not fit together.
    """

    model: EncoderModel

    def __init__(
        self,
        model: EncoderModel,
        tokenizer: Tokenizer,
        pooling: Pooling = "mean",
        normalize: bool = True,
        max_length: int | None = None,
    ) -> None:
        if not isinstance(model, EncoderModel):
            raise ConfigError(f"model must be a bare encoder such as BertModel, got {type(model).__name__}")
        if pooling not in ("mean", "cls"):
            raise ConfigError(f"pooling must be 'mean' or 'cls', got {pooling!r}")
        super().__init__(model, tokenizer, max_length)
        self.pooling, self.normalize = pooling, normalize

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        dtype: str | None = None,
        device: str | None = None,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> SentenceEncoder:
        """Reads an encoder with its tokenizer, and what sentence-transformers adds to such a folder: how
        tokens are pooled, whether vectors are normalised, where sentences are cut. Without that, the
        mean is taken and normalised.

        Args and errors: as `PretrainedModel.from_pretrained`; ConfigError for modules that are not built
        in, such as a further dense layer.
        """
        where: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
        settings = read_settings(resolve_folder(name, patterns=FOLDER_FILES, **where))
        folder = resolve_folder(name, **where)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*holds no pooler")  # which no pooling here looks at
            model = AutoModel.from_pretrained(folder, dtype, device)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        options = (settings.pooling, settings.normalize, settings.max_length)
        return cls(model, tokenizer, *options)  # type: ignore[arg-type] # checked there

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        size: int = self.model.config.hidden_size
        return size

    def encode(
        self, texts: str | Sequence[Text], batch_size: int = 32, normalize: bool | None = None
    ) -> np.ndarray:
        """The vectors of sentences.

        Args:
            texts: a sentence, or a list of them in any order; those of similar length share a batch.
            batch_size: sentences that the model sees at once.
            normalize: whether vectors get length 1; None for as the model's folder says.

        Returns: (texts, dimension) float32; (dimension,) for a single string.

        Raises: ConfigError for batch_size; DataError for what is no text.
        """
        if isinstance(texts, str):
            single: np.ndarray = self.encode([texts], batch_size, normalize)[0]
            return single
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        with no_grad(), packed_weights(self.model):
            for batch in self.batches(texts, batch_size):
                vectors[batch.rows] = self._pooled(batch).numpy()
        if self.normalize if normalize is None else normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SMALLEST_NORM)
        return vectors

    def similarity(self, first: Sequence[Text], second: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """The cosine between every sentence of one list and every one of another, (first, second)."""
        a, b = (self.encode(texts, batch_size, normalize=True) for texts in (first, second))
        cosines: np.ndarray = a @ b.T
        return cosines

    def _pooled(self, batch: TextBatch) -> Tensor:
        """(batch, dimension) float32."""
        by_first_token = self.pooling == "cls"
        tokens = self.model.token_states(
            **batch.inputs, padding_is_read=False, only_first_is_read=by_first_token
        )
        if by_first_token:
            return ops.cast(tokens.first_tokens(), "float32")
        # Without padding all tokens lie in a row: one product adds up those of each sentence.
        states = ops.cast(tokens.states.view(-1, self.dimension), "float32")
        owner = np.repeat(np.arange(len(batch.rows)), batch.lengths)
        shares = (owner == np.arange(len(batch.rows))[:, None]) / batch.lengths[:, None]
        return tensor(shares.astype(np.float32), device=states.device) @ states
