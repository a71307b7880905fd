"""What the stacks of encoder-decoders share: the calls of encoder and decoder. A family says what they
compute."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pymodel import nn
from pymodel.models.cache import KeyValueCache, checked_cache
from pymodel.models.encoder_layout import EncoderLayout, encoder_layout
from pymodel.models.inputs import sequence_layout, token_ids
from pymodel.models.outputs import BaseModelOutput, Seq2SeqModelOutput, States
from pymodel.models.seq2seq_layout import Shown, Source, Target
from pymodel.tensor import Tensor


class Stack(nn.Module):
    """Base of encoders and decoders: the embedding `embed_tokens` and what is read from it."""

    embed_tokens: nn.Embedding
    max_positions: int | None = None  # None where positions have no table

    def _token_ids(self, values: Any, name: str) -> np.ndarray:
        return token_ids(values, self.embed_tokens.num_embeddings, name)

    def _check_length(self, tokens: int, name: str) -> None:
        if self.max_positions is not None and tokens > self.max_positions:
            raise ValueError(
                f"{name}: {tokens} tokens are more than max_position_embeddings, the model's context of "
                f"{self.max_positions}; cut the text to that length"
            )


class Seq2SeqEncoder(Stack):
    """Base of the encoders; a family computes the states in `_run`."""

    by_distance: ClassVar[bool] = False  # as in `encoder_layout`

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> BaseModelOutput:
        """The hidden states of a source.

        Args:
            input_ids: (batch, source) token ids, as NumPy array, nested lists or tensor.
            attention_mask: (batch, source), 0 where there is padding.
            output_hidden_states: return the embeddings and the output of every block too.
            output_attentions: return the attention weights of every block too.
            padding_is_read: False when nobody looks at the states of padding, which then costs nothing
                and has states of zeros.

        Raises: ValueError or TypeError for ids or a mask that do not fit.
        """
        ids = self._token_ids(input_ids, "input_ids")
        batch, sequence = ids.shape
        self._check_length(sequence, "input_ids")
        device = self.embed_tokens.weight.device
        read = padding_is_read or output_attentions  # weights of packed tokens are made nowhere
        layout = encoder_layout(
            batch,
            sequence,
            attention_mask,
            device,
            padding_is_read=read,
            by_distance=self.by_distance,
        )
        shown = Shown([] if output_hidden_states else None, [] if output_attentions else None)
        last = layout.padded(self._run(ids, layout, shown))
        states = None if shown.states is None else (*map(layout.padded, shown.states), last)
        return BaseModelOutput(last, None, states, _all(shown.weights))

    def _run(self, ids: np.ndarray, layout: EncoderLayout, shown: Shown) -> Tensor:
        """The last hidden states of ids, (batch, source), where the layout has the tokens."""
        raise NotImplementedError


class Seq2SeqDecoder(Stack):
    """Base of the decoders; a family computes the states in `_run`."""

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Any = None,
        past_key_values: KeyValueCache | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> Seq2SeqModelOutput:
        """The hidden states of a target.

        Args:
            input_ids: (batch, target) token ids.
            attention_mask: (batch, target) or (batch, past + target), 0 where there is padding.
            encoder_hidden_states: (batch, source, width), what the encoder made of the source.
            encoder_attention_mask: (batch, source), 0 where the source has padding.
            past_key_values: what came before; these tokens are added to it.
            output_hidden_states: return the embeddings and the output of every block too.
            output_attentions: return the attention weights of every block too, on target and source.
            padding_is_read: False when nobody looks at the states of right padding.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        if encoder_hidden_states is None:
            raise ValueError("encoder_hidden_states: the decoder looks at a source, got None")
        cache = checked_cache(past_key_values)
        ids = self._token_ids(input_ids, "decoder_input_ids")
        device = self.embed_tokens.weight.device
        batch, sequence = ids.shape
        rows, source = encoder_hidden_states.shape[:2]
        if rows != batch:
            raise ValueError(f"decoder_input_ids has {batch} rows and the source {rows}; one for each")
        layout = sequence_layout(
            batch,
            sequence,
            attention_mask,
            cache=cache,
            padding_is_read=padding_is_read,
            device=device,
            mask_name="decoder_attention_mask",
        )
        self._check_length(int(layout.positions.max(initial=-1)) + 1, "decoder_input_ids")
        seen = encoder_layout(batch, source, encoder_attention_mask, device)
        shown = Shown(
            [] if output_hidden_states else None,
            [] if output_attentions else None,
            [] if output_attentions else None,
        )
        last = self._run(ids, Target(layout, cache), Source(encoder_hidden_states, seen, cache), shown)
        if cache is not None:
            cache.advance(layout.added)
        states = None if shown.states is None else (*shown.states, last)
        return Seq2SeqModelOutput(last, cache, states, _all(shown.weights), _all(shown.cross_weights))

    def _run(self, ids: np.ndarray, target: Target, source: Source, shown: Shown) -> Tensor:
        """The last hidden states of ids, (batch, target), at the places that `target` says."""
        raise NotImplementedError


def _all(weights: list[Tensor] | None) -> States:
    return None if weights is None else tuple(weights)
