"""What the families of encoders share: the call of the bare model, on tokens packed or padded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from pymodel import nn
from pymodel.models.encoder_blocks import EncoderBlock, EncoderEmbeddings, Pooler
from pymodel.models.encoder_layout import EncoderLayout, encoder_layout
from pymodel.models.inputs import integers_per_token, token_ids
from pymodel.models.outputs import BaseModelOutputWithPooling, States
from pymodel.models.pretrained import PretrainedModel
from pymodel.tensor import Tensor


@dataclasses.dataclass
class TokenStates:
    """What an encoder makes of a batch, the tokens lying as it suits the kernels.

    states: of the last block; (tokens, width) when packed, (batch, sequence, width) otherwise. Where
        only those of first tokens were computed, (batch, width).
    layout: where the tokens of each text are.
    hidden_states, attentions: as in the outputs, never packed.
    only_first: whether `states` are those of first tokens.
    """

    states: Tensor
    layout: EncoderLayout
    hidden_states: States = None
    attentions: States = None
    only_first: bool = False

    def padded(self, x: Tensor) -> Tensor:
        """Results for tokens as (batch, sequence, ...), with zeros where padding was left out."""
        return self.layout.padded(x)

    def first_tokens(self) -> Tensor:
        """The state of every text's first token, (batch, width).

        Raises: ValueError for texts of no tokens.
        """
        return self.states if self.only_first else self.layout.first_tokens(self.states)


class EncoderPretrainedModel(PretrainedModel):
    """What the bare model and those with heads share: initial values and the names of old files."""

    ignored_on_load = (r"embeddings\.position_ids$", r"embeddings\.token_type_ids$")  # buffers once
    renamed_on_load = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))  # as TensorFlow named norms

    @property
    def longest_text(self) -> int:
        """How many tokens a text may have."""
        longest: int = self.config.max_position_embeddings
        return longest

    def init_parameter(self, name: str, parameter: Tensor) -> None:
        """As for all models, with zeros for the padding token."""
        super().init_parameter(name, parameter)
        if name.endswith("word_embeddings.weight") and self.config.pad_token_id is not None:
            nn.init.zeros_(parameter.detach()[self.config.pad_token_id])


class EncoderModel(EncoderPretrainedModel):
    """Base of the bare encoders; a family sets `embeddings` and perhaps `pooler`, and names its blocks."""

    embeddings: EncoderEmbeddings
    pooler: Pooler | None = None

    @property
    def blocks(self) -> Iterable[EncoderBlock]:
        """The blocks in order."""
        raise NotImplementedError

    def default_positions(self, ids: np.ndarray) -> np.ndarray:
        """Positions of the tokens of (batch, sequence) ids, where the caller gives none."""
        return np.arange(ids.shape[1])[None]

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
    ) -> BaseModelOutputWithPooling:
        """The hidden states of every token, and of every text where the model has a pooler.

        Args:
            input_ids: (batch, sequence) token ids, as NumPy array, nested lists or tensor.
            attention_mask: (batch, sequence), 0 where there is padding.
            token_type_ids: (batch, sequence), 1 in the second text of a pair; 0 everywhere when None.
            position_ids: (batch, sequence), or None to count from the beginning.
            output_hidden_states: return the embeddings and the output of every block too.
            output_attentions: return the attention weights of every block too, which takes memory for
                all of them.
            padding_is_read: False when nobody looks at the states of padding; it then costs nothing, and
                its states are zeros.

        Raises: ValueError or TypeError for ids, masks, types or positions that do not fit.
        """
        tokens = self.token_states(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states,
            output_attentions,
            padding_is_read,
        )
        pooled = None if self.pooler is None else self.pooled(tokens)
        return BaseModelOutputWithPooling(
            tokens.padded(tokens.states), pooled, tokens.hidden_states, tokens.attentions
        )

    def token_states(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        padding_is_read: bool = True,
        only_first_is_read: bool = False,
    ) -> TokenStates:
        """What `forward` returns, for heads: packed where nobody reads padding.

        Args: as in `forward`.
            only_first_is_read: whether nobody looks at any state but that of every text's first token. The
                last block then computes no other, unless hidden states or attention weights are asked for.

        Raises: as `forward`; ValueError for texts of no tokens where their first is read.
        """
        ids = token_ids(input_ids, self.config.vocab_size)
        batch, sequence = ids.shape
        types = token_type_ids
        if types is not None:
            count = max(self.config.type_vocab_size, 1)
            types = integers_per_token(types, batch, sequence, count, "token_type_ids")
        positions = self._positions(ids, position_ids)
        layout = encoder_layout(
            batch,
            sequence,
            attention_mask,
            self.device,
            padding_is_read=padding_is_read or output_hidden_states or output_attentions,
        )
        weights: list[Tensor] | None = [] if output_attentions else None
        x = self.embeddings(ids, types, positions, layout)
        states = [x]
        blocks = list(self.blocks)
        only_first = only_first_is_read and not output_hidden_states and not output_attentions
        for block in blocks[:-1] if only_first else blocks:
            x = block(x, layout, weights)
            if output_hidden_states:
                states.append(x)
        if only_first:
            x = blocks[-1].first_tokens(x, layout)
        return TokenStates(
            x,
            layout,
            tuple(states) if output_hidden_states else None,
            None if weights is None else tuple(weights),
            only_first,
        )

    def pooled(self, tokens: TokenStates) -> Tensor:
        """What the pooler makes of every text's first token, (batch, width).

        Raises: TypeError for a model without one; ValueError for texts of no tokens.
        """
        if self.pooler is None:
            raise TypeError("this model has no pooler: make it with add_pooling_layer=True")
        result: Tensor = self.pooler(tokens.first_tokens())
        return result

    def _positions(self, ids: np.ndarray, position_ids: Any) -> np.ndarray:
        """(batch, sequence) or (1, sequence) int64, all of them rows of the table."""
        limit = self.config.max_position_embeddings
        if position_ids is not None:
            return integers_per_token(position_ids, ids.shape[0], ids.shape[1], limit, "position_ids")
        positions = self.default_positions(ids)
        if positions.size and int(positions.max()) >= limit:
            raise ValueError(
                f"input_ids: texts may have {self.longest_text} tokens, got {ids.shape[1]}: the table of "
                f"positions has {limit} rows (max_position_embeddings); cut them to that length"
            )
        return positions
