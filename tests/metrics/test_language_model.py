"""Perplexity and bits per byte."""

import math

import pytest

from pymodel.errors import DataError
from pymodel.metrics import bits_per_byte, perplexity


def test_perplexity_is_the_number_of_equally_likely_tokens() -> None:
    assert perplexity(math.log(50257)) == pytest.approx(50257)
    assert perplexity(0.0) == 1.0
    assert perplexity(1e6) == math.inf


def test_bits_per_byte_does_not_depend_on_the_tokens() -> None:
    """Eight bits for each byte when every byte is equally likely, alone or in pairs."""
    assert bits_per_byte(math.log(256), 100, 100) == pytest.approx(8.0)
    assert bits_per_byte(math.log(256**2), 50, 100) == pytest.approx(8.0)
    with pytest.raises(DataError, match="expected 1 or more bytes of text, got 0"):
        bits_per_byte(1.0, 1, 0)
