"""What a model makes of growing rows of tokens: the logits of the next one.

Decoding and beam search ask a predictor and do not know what kind of model stands behind it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from pymodel.autograd import no_grad
from pymodel.errors import PymodelError
from pymodel.generate.sequences import Sequences, padded
from pymodel.models.cache import KeyValueCache, picked_rows


class Predictor(Protocol):
    """Reads rows of tokens, each call only what is new where there is a cache.

    Attributes: `keeps_rows`, whether rows that have ended must stay, since the cache is someone else's.
    """

    keeps_rows: bool

    def logits(self, sequences: Sequences) -> np.ndarray:
        """What follows every row, (rows, vocab_size) float32."""

    def reorder(self, rows: np.ndarray, shared: np.ndarray | None = None) -> None:
        """Row b becomes what row rows[b] was; as `KeyValueCache.reorder`."""

    def close(self, sequences: Sequences) -> None:
        """Says that nothing more will be asked, after these tokens."""


class DecoderPredictor:
    """Of a model that is a decoder alone.

    Args:
        model: called as model(input_ids, attention_mask=, past_key_values=, logits_to_keep=).
        cache: empty, or filled with the beginning of every row; None to read everything each time.
        lent: the cache is the caller's, who will use it again.
    """

    def __init__(self, model: Any, cache: KeyValueCache | None, lent: bool = False) -> None:
        self._model = model
        self._cache = cache
        self.keeps_rows = lent

    def logits(self, sequences: Sequences) -> np.ndarray:
        """What follows every row, (rows, vocab_size) float32."""
        cache, lengths = self._cache, sequences.lengths
        if cache is not None:
            # The last token is read in any case. Only rows that wait for others to end hold it already.
            cache.crop(lengths - 1)
        known = np.zeros_like(lengths) if cache is None else cache.lengths
        counts = lengths - known
        width = int(counts.max())
        options: dict[str, Any] = {"past_key_values": cache}
        if width > 1:
            options["attention_mask"] = np.arange(width) < counts[:, None]
            options["logits_to_keep"] = counts - 1
        with _inference(self._model):
            output = self._model(sequences.window(known, width), **options)
        return _checked(output.logits.numpy())

    def reorder(self, rows: np.ndarray, shared: np.ndarray | None = None) -> None:
        """Row b becomes what row rows[b] was."""
        if self._cache is not None:
            self._cache.reorder(rows, shared)

    def close(self, sequences: Sequences) -> None:
        """Notes in a cache that is lent what it holds."""
        if self._cache is not None and self.keeps_rows and self._cache.batch == len(sequences):
            self._cache.crop(sequences.lengths)
            held = zip(sequences.tokens, self._cache.lengths.tolist(), strict=True)
            self._cache.note_tokens([row[:length] for row, length in held])


class EncoderDecoderPredictor:
    """Of an encoder-decoder: the source is read once, the rows are the decoder's.

    Args:
        model: has get_encoder(), and is called as model(encoder_outputs=, attention_mask=,
            decoder_input_ids=, past_key_values=, use_cache=, logits_to_keep=).
        sources: token ids of every source.
        cache: empty, or None to read the rows whole each time.
    """

    keeps_rows = False

    def __init__(self, model: Any, sources: Sequence[np.ndarray], cache: KeyValueCache | None) -> None:
        self._model = model
        self._cache = cache
        lengths = np.array([len(source) for source in sources], dtype=np.int64)
        self._mask = (np.arange(lengths.max(initial=0)) < lengths[:, None]).astype(np.int64)
        with _inference(model):
            # Any token may stand where the mask has padding.
            self._encoded = model.get_encoder()(
                padded(sources, 0), attention_mask=self._mask, padding_is_read=False
            )
        self._sources = np.arange(len(sources))

    def logits(self, sequences: Sequences) -> np.ndarray:
        """What follows every row, (rows, vocab_size) float32; the rows are of one length."""
        past = 0 if self._cache is None else self._cache.get_seq_length()
        width = int(sequences.lengths.max()) - past
        with _inference(self._model):
            output = self._model(
                encoder_outputs=self._encoded,
                attention_mask=self._mask,
                decoder_input_ids=sequences.window(np.full(len(sequences), past), width),
                past_key_values=self._cache,
                use_cache=self._cache is not None,
                logits_to_keep=1,
            )
        return _checked(output.logits.numpy())

    def reorder(self, rows: np.ndarray, shared: np.ndarray | None = None) -> None:
        """Row b becomes what row rows[b] was."""
        if self._cache is not None:
            self._cache.reorder(rows, shared)
        sources = self._sources[rows]
        if not np.array_equal(sources, self._sources):  # else beams of one source changed places
            states = self._encoded.last_hidden_state
            self._encoded = type(self._encoded)(last_hidden_state=picked_rows(states, rows))
            self._mask = self._mask[rows]
        self._sources = sources

    def close(self, sequences: Sequences) -> None:
        """Nothing is left to do."""


def _checked(logits: np.ndarray) -> np.ndarray:
    """The logits of the last position in float32, to be changed at will."""
    last: np.ndarray = logits[:, -1].astype(np.float32, copy=False)
    if np.isnan(last.max(axis=1)).any():  # a maximum with NaN is NaN
        raise PymodelError(
            "generate: the model's logits hold NaN; its weights are damaged or training diverged"
        )
    return last


@contextlib.contextmanager
def _inference(model: Any) -> Iterator[None]:
    """Without gradients, and without dropout whatever mode the model is in."""
    modes = [(module, module.training) for module in model.modules()] if model.training else []
    if modes:
        model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
