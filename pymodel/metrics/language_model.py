"""How well a language model predicts text."""

import math

from pymodel.errors import DataError


def perplexity(loss: float) -> float:
    """The number of equally likely tokens that a model is as unsure as being among.

        perplexity = exp(loss)

    Args:
        loss: mean cross-entropy of a token, in nats.

    Returns:
        1 or more; infinity when it does not fit in a float.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bits_per_byte(loss: float, token_count: int, text_bytes: int) -> float:
    """Bits the model needs for each byte of text, comparable between tokenizers and with compressors.

        bits per byte = loss * token_count / (ln 2 * text_bytes)

    Args:
        loss: mean cross-entropy of a predicted token, in nats.
        token_count: predicted tokens.
        text_bytes: UTF-8 bytes of the text that these tokens spell.

    Raises:
        DataError: there are no bytes.

    Source: Gao et al. 2020, "The Pile", section 3.1 (arXiv:2101.00027).
    """
    if text_bytes < 1:
        raise DataError(f"bits_per_byte: expected 1 or more bytes of text, got {text_bytes}")
    return loss * token_count / (math.log(2.0) * text_bytes)
