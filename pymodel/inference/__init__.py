"""Trained encoders at work on text: sentence vectors, hidden words, classes."""

from pymodel.inference.sentence_encoder import SentenceEncoder

__all__ = ["SentenceEncoder"]
