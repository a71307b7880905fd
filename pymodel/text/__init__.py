"""Text to token ids and back."""

from pymodel.files import atomic_file
from pymodel.text.streaming import StreamDecoder
from pymodel.text.tokenizer import Tokenizer

__all__ = ["StreamDecoder", "Tokenizer", "atomic_file"]
