"""What the families of encoder-decoders share: the calls of the bare model and of the language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pymodel import nn, ops
from pymodel.autograd import is_grad_enabled, set_grad_enabled
from pymodel.models.cache import KeyValueCache
from pymodel.models.decoder import kept_states
from pymodel.models.inputs import IGNORED, padding_is_unlabelled, target_ids, token_ids
from pymodel.models.outputs import BaseModelOutput, Deferred, Seq2SeqLMOutput, Seq2SeqModelOutput
from pymodel.models.pretrained import GenerationMixin, PretrainedModel
from pymodel.models.seq2seq_stacks import Seq2SeqDecoder, Seq2SeqEncoder
from pymodel.tensor import Tensor, tensor


class Seq2SeqPretrainedModel(PretrainedModel):
    """What the bare model and those with a head share: encoder, decoder, cache."""

    # Whether a call without decoder_input_ids continues with the source itself, as BART does.
    decodes_source: ClassVar[bool] = False

    @property
    def body(self) -> Any:
        """The module that holds `encoder` and `decoder`."""
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    def get_encoder(self) -> Seq2SeqEncoder:
        """The encoder, to read a source once for several calls."""
        encoder: Seq2SeqEncoder = self.body.encoder
        return encoder

    def get_decoder(self) -> Seq2SeqDecoder:
        """The decoder."""
        decoder: Seq2SeqDecoder = self.body.decoder
        return decoder

    @property
    def cache_extents(self) -> tuple[int, int, int]:
        """Blocks, heads and head_dim of the decoder."""
        config = self.config
        heads = config.decoder_attention_heads
        return config.decoder_layers, heads, config.d_model // heads

    def new_cache(self, batch: int, capacity: int = 0) -> KeyValueCache:
        """An empty cache for `batch` rows, with room for `capacity` tokens before it has to grow."""
        layers, heads, head_dim = self.cache_extents
        return KeyValueCache(layers, batch, heads, head_dim, capacity, self.dtype, self.device)

    def prepare_decoder_input_ids_from_labels(self, labels: Any) -> np.ndarray:
        """The tokens from which a decoder predicts labels, (batch, target): the start token and all labels
        but the last, with padding where they are -100."""
        return shifted_right(
            target_ids(labels, self.config.target_vocab_size), **self._shift_tokens("labels")
        )

    def _shift_tokens(self, name: str) -> dict[str, int]:
        """The tokens that `shifted_right` puts in."""
        tokens = {"start": "decoder_start_token_id", "padding": "pad_token_id"}
        for key in tokens.values():
            if getattr(self.config, key) is None:
                raise ValueError(
                    f"{name}: shifting tokens to the right needs {key}, which the configuration does not "
                    "name; set it, or pass decoder_input_ids"
                )
        return {argument: getattr(self.config, key) for argument, key in tokens.items()}

    def _states(
        self,
        input_ids: Any,
        attention_mask: Any,
        decoder_input_ids: Any,
        decoder_attention_mask: Any,
        encoder_outputs: Any,
        past_key_values: KeyValueCache | None,
        use_cache: bool | None,
        shows: tuple[bool, bool],
        padding_is_read: bool = True,
    ) -> Seq2SeqModelOutput:
        """The hidden states of the target; arguments as in `Seq2SeqModel`, `shows` its last two."""
        if decoder_input_ids is None:
            if input_ids is None or not self.decodes_source:
                raise ValueError(
                    "decoder_input_ids: the tokens of the target are missing; pass them, or labels"
                )
            ids = token_ids(input_ids, self.config.target_vocab_size)
            decoder_input_ids = shifted_right(ids, **self._shift_tokens("input_ids"))
        decoder_ids = token_ids(decoder_input_ids, self.config.target_vocab_size, "decoder_input_ids")
        cache = past_key_values
        if cache is None and use_cache:
            cache = self.new_cache(*decoder_ids.shape)
        with set_grad_enabled(is_grad_enabled() and cache is None):
            if encoder_outputs is None:
                if input_ids is None:
                    raise ValueError("input_ids: the source is missing; pass it, or encoder_outputs")
                encoder_outputs = self.get_encoder()(input_ids, attention_mask, *shows, padding_is_read=False)
            encoded = _as_output(encoder_outputs)
            decoded: Seq2SeqModelOutput = self.get_decoder()(
                decoder_ids,
                decoder_attention_mask,
                encoded.last_hidden_state,
                attention_mask,
                cache,
                *shows,
                padding_is_read,
            )
        return dataclasses.replace(
            decoded,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )


class Seq2SeqModel(Seq2SeqPretrainedModel):
    """Base of the bare models: an encoder and a decoder."""

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> Seq2SeqModelOutput:
        """The hidden states of the target's tokens.

        Args:
            input_ids: (batch, source) token ids, as NumPy array, nested lists or tensor; they may be left
                out beside encoder_outputs.
            attention_mask: (batch, source), 0 where the source has padding.
            decoder_input_ids: (batch, target) token ids, behind those in the cache; BART takes the source
                shifted to the right in their place.
            decoder_attention_mask: (batch, target) or (batch, past + target), 0 where there is padding.
            encoder_outputs: what `get_encoder()` returned for the source, or a tuple that begins with its
                states.
            past_key_values: what an earlier call with this source returned.
            use_cache: start and return a cache; None does so when one is given. With a cache nothing
                is recorded for backward.
            output_hidden_states: return the embeddings and the output of every block too.
            output_attentions: return the attention weights of every block too, which takes memory for
                all of them.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        return self._states(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            use_cache,
            (output_hidden_states, output_attentions),
        )


class Seq2SeqLanguageModel(Seq2SeqPretrainedModel, GenerationMixin):
    """Base of the models that write a target: encoder, decoder and `lm_head`."""

    lm_head: nn.Linear

    def head_states(self, states: Tensor) -> Tensor:
        """What the head is applied to."""
        return states

    @property
    def head_bias(self) -> Tensor | None:
        """What is added to the logits, (target_vocab_size,), or None."""
        return None

    @property
    def default_smoothing(self) -> float:
        """The label smoothing of a call that does not name one."""
        return 0.0

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        past_key_values: KeyValueCache | None = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        label_smoothing: float | None = None,
        logits_to_keep: int | np.ndarray = 0,
    ) -> Seq2SeqLMOutput:
        """The scores of the next token at every position of the target, and with labels the loss.

        loss = -mean over the labels of log softmax(logits[t])[labels[t]]

        Args:
            input_ids, attention_mask, decoder_input_ids, decoder_attention_mask, encoder_outputs,
                past_key_values, use_cache, output_hidden_states, output_attentions: as in `Seq2SeqModel`.
            labels: (batch, target) token ids, and -100 where none counts. Without decoder_input_ids they
                are shifted to the right to become them.
            label_smoothing: the share of probability that the loss spreads over all tokens.
            logits_to_keep: compute those of this many last positions, 0 for all; or (batch,), of one
                position in every row, which gives logits of (batch, 1, target_vocab_size).

        Returns: loss (with labels), logits (batch, target, target_vocab_size), past_key_values and the
        states and weights that were asked for.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        targets = None
        padding_is_read = True
        if labels is not None:
            if not np.isscalar(logits_to_keep) or logits_to_keep:
                raise ValueError("labels need the logits of every position: leave logits_to_keep at 0")
            targets = target_ids(labels, self.config.target_vocab_size)
            if decoder_input_ids is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(targets)
            elif np.shape(decoder_input_ids) != targets.shape:
                raise ValueError(
                    f"labels must have the shape {np.shape(decoder_input_ids)} of decoder_input_ids, "
                    f"got {targets.shape}"
                )
            padding_is_read = not padding_is_unlabelled(targets, decoder_attention_mask)
            use_cache = False
        output = self._states(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            use_cache,
            (output_hidden_states, output_attentions),
            padding_is_read,
        )
        recorded = is_grad_enabled() and output.past_key_values is None
        states = output.last_hidden_state

        def logits() -> Tensor:
            with set_grad_enabled(recorded):
                kept = self.head_states(kept_states(states, logits_to_keep))
                return ops.linear(kept, self.lm_head.weight, self.head_bias)

        rest = {f.name: getattr(output, f.name) for f in dataclasses.fields(output)[1:]}
        if targets is None:
            return Seq2SeqLMOutput(None, logits(), **rest)
        with set_grad_enabled(recorded):
            loss = ops.linear_cross_entropy(
                self.head_states(states),
                self.lm_head.weight,
                tensor(targets, device=states.device),
                bias=self.head_bias,
                label_smoothing=self.default_smoothing if label_smoothing is None else label_smoothing,
            )
        return Seq2SeqLMOutput(loss, Deferred(logits), **rest)


def shifted_right(ids: np.ndarray, start: int, padding: int) -> np.ndarray:
    """Tokens moved one place to the right, behind a start token; -100 becomes padding.

    Args:
        ids: (batch, target) token ids or -100.
        start: the token that comes first.
        padding: the one in place of -100.
    """
    shifted = np.full_like(ids, start)
    shifted[:, 1:] = ids[:, :-1]
    shifted[shifted == IGNORED] = padding
    return shifted


def _as_output(encoded: Any) -> BaseModelOutput:
    """encoder_outputs as an output; transformers also takes tuples."""
    if isinstance(encoded, Sequence):
        states: tuple[Any, ...] = (*encoded, None, None)
        return BaseModelOutput(states[0], None, states[1], states[2])
    if not hasattr(encoded, "last_hidden_state"):
        raise TypeError(
            f"encoder_outputs must be what get_encoder() returns, or a tuple, got {type(encoded).__name__}"
        )
    output: BaseModelOutput = encoded
    return output
