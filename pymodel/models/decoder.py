"""What the families of decoders share: the call of the bare model, and the language model on top of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from pymodel import nn, ops
from pymodel.autograd import is_grad_enabled, set_grad_enabled
from pymodel.models.cache import KeyValueCache, checked_cache
from pymodel.models.inputs import (
    SequenceLayout,
    padding_is_unlabelled,
    sequence_layout,
    shifted_labels,
    token_ids,
    token_labels,
)
from pymodel.models.outputs import BaseModelOutput, CausalLMOutput, Deferred
from pymodel.models.pretrained import GenerationMixin, PretrainedModel
from pymodel.tensor import Tensor, tensor


class DecoderPretrainedModel(PretrainedModel):
    """What the bare model and the language model share: the cache."""

    @property
    def cache_extents(self) -> tuple[int, int, int]:
        """Layers, key heads and head_dim; each family has its own."""
        raise NotImplementedError

    def new_cache(self, batch: int, capacity: int = 0) -> KeyValueCache:
        """An empty cache for `batch` rows, with room for `capacity` tokens before it has to grow."""
        layers, heads, head_dim = self.cache_extents
        return KeyValueCache(layers, batch, heads, head_dim, capacity, self.dtype, self.device)


class DecoderModel(DecoderPretrainedModel):
    """Base of the stacks of causal blocks, without a head; a family computes the states in `_run`."""

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> BaseModelOutput:
        """The hidden states of every token.

        Args:
            input_ids: (batch, sequence) token ids, as NumPy array, nested lists or tensor.
            attention_mask: (batch, sequence) or (batch, past + sequence), 0 where there is padding.
            position_ids: (batch, sequence), or None to count on from the tokens in the cache.
            past_key_values: what an earlier call returned; its tokens come before these.
            use_cache: start and return a cache; None does so when one is given. With a cache
                nothing is recorded for backward.
            output_hidden_states: return the embeddings and the output of every block too.
            output_attentions: return the attention weights of every block too, which takes memory for
                all of them.
            padding_is_read: False when nobody looks at the states of right padding, which is then
                skipped.

        Raises: ValueError or TypeError for ids, masks, positions or a cache that do not fit.
        """
        ids = token_ids(input_ids, self.config.vocab_size)
        batch, sequence = ids.shape
        cache = checked_cache(past_key_values)
        if cache is None and use_cache:
            cache = self.new_cache(batch, sequence)
        layout = sequence_layout(
            batch,
            sequence,
            attention_mask,
            position_ids,
            cache,
            padding_is_read=padding_is_read,
            device=self.device,
        )
        states: list[Tensor] | None = [] if output_hidden_states else None
        weights: list[Tensor] | None = [] if output_attentions else None
        with set_grad_enabled(is_grad_enabled() and cache is None):
            last = self._run(ids, layout, cache, states, weights)
        if cache is not None:
            cache.advance(layout.added)
        return BaseModelOutput(
            last,
            cache,
            None if states is None else (*states, last),
            None if weights is None else tuple(weights),
        )

    def _run(
        self,
        ids: np.ndarray,
        layout: SequenceLayout,
        cache: KeyValueCache | None,
        states: list[Tensor] | None,
        weights: list[Tensor] | None,
    ) -> Tensor:
        """The last hidden states, (batch, sequence, width).

        Args:
            ids: (batch, sequence) int64.
            layout: where the tokens stand.
            cache: takes their keys and values, without being advanced.
            states: gets the embeddings and the output of all blocks but the last, when wanted.
            weights: gets the attention weights of every block, when wanted.
        """
        raise NotImplementedError


class CausalLanguageModel(DecoderPretrainedModel, GenerationMixin):
    """Base of the language models: a bare model under `base_model_prefix`, and `lm_head`.

    `embedding_name` is the name of the token embedding's weight in the bare model, which the head shares
    when the configuration ties them.
    """

    embedding_name: ClassVar[str]

    def add_head(self, width: int, embedding: nn.Parameter) -> None:
        """Makes the head that turns states of this width into scores of every token."""
        config = self.config
        with nn.init.no_init():
            self.lm_head = nn.Linear(
                width, config.vocab_size, bias=False, dtype=embedding.dtype, device=embedding.device
            )
        if config.tie_word_embeddings:
            self.lm_head.weight = embedding
        else:
            nn.init.normal_(self.lm_head.weight, std=config.initializer_range)

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names that checkpoints leave out, and the parameters they share."""
        if not self.config.tie_word_embeddings:
            return {}
        return {"lm_head.weight": f"{self.base_model_prefix}.{self.embedding_name}"}

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        labels: Any = None,
        position_ids: Any = None,
        past_key_values: KeyValueCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        logits_to_keep: int | np.ndarray = 0,
    ) -> CausalLMOutput:
        """The scores of the next token at every position, and with labels the loss.

        loss = -mean over the labels after the first of log softmax(logits[t])[labels[t + 1]]

        Args:
            input_ids, attention_mask, position_ids, past_key_values, use_cache, output_hidden_states,
                output_attentions: as in `DecoderModel`.
            labels: (batch, sequence) token ids, shifted in here, and -100 where none counts; often
                input_ids itself. Where all labels of right padding are -100, it is skipped.
            logits_to_keep: compute those of this many last positions, 0 for all; or (batch,), of
                one position in every row, which gives logits of (batch, 1, vocab_size).

        Returns: loss (with labels), logits (batch, sequence, vocab_size), past_key_values,
        hidden_states and attentions as in `DecoderModel`.

        Raises: ValueError or TypeError for arguments that do not fit.
        """
        targets = None
        padding_is_read = True
        if labels is not None:
            if not np.isscalar(logits_to_keep) or logits_to_keep:
                raise ValueError("labels need the logits of every position: leave logits_to_keep at 0")
            vocab_size = self.config.vocab_size
            ids = token_ids(input_ids, vocab_size)
            # What is given as both, as it often is, has been checked.
            checked = ids if labels is input_ids else token_labels(labels, ids.shape, vocab_size)
            input_ids, targets = ids, shifted_labels(checked)
            padding_is_read = not padding_is_unlabelled(targets, attention_mask)
        output = getattr(self, self.base_model_prefix)(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            use_cache,
            output_hidden_states,
            output_attentions,
            padding_is_read,
        )
        recorded = is_grad_enabled() and output.past_key_values is None
        states = output.last_hidden_state

        def logits() -> Tensor:
            with set_grad_enabled(recorded):
                result: Tensor = self.lm_head(kept_states(states, logits_to_keep))
                return result

        rest = (output.past_key_values, output.hidden_states, output.attentions)
        if targets is None:
            return CausalLMOutput(None, logits(), *rest)
        with set_grad_enabled(recorded):
            loss = ops.linear_cross_entropy(
                states, self.lm_head.weight, tensor(targets, device=states.device)
            )
        return CausalLMOutput(loss, Deferred(logits), *rest)


def kept_states(states: Tensor, keep: int | np.ndarray) -> Tensor:
    """The hidden states whose logits are wanted, as `logits_to_keep` says."""
    batch, sequence, width = states.shape
    if isinstance(keep, (int, np.integer)):
        return states[:, -int(keep) :] if 0 < keep < sequence else states
    rows = tensor(np.arange(batch) * sequence + np.asarray(keep), device=states.device)
    return ops.embedding(rows, states.view(batch * sequence, width)).view(batch, 1, width)
