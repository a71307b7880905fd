"""Measures of quality, from plain numbers."""

from pymodel.metrics.language_model import bits_per_byte, perplexity

__all__ = ["bits_per_byte", "perplexity"]
