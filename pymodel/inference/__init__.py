"""Trained encoders at work on text: sentence vectors, hidden words, classes."""

from pymodel.inference.classification import (
    Entity,
    EntityRecognition,
    LabelScore,
    TextClassification,
    load_classifier,
)
from pymodel.inference.fill_mask import Filling, FillMask
from pymodel.inference.sentence_encoder import SentenceEncoder

__all__ = [
    "Entity",
    "EntityRecognition",
    "FillMask",
    "Filling",
    "LabelScore",
    "SentenceEncoder",
    "TextClassification",
    "load_classifier",
]
