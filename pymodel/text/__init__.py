"""Text to token ids and back."""

from pymodel.text.files import atomic_file
from pymodel.text.streaming import StreamDecoder
from pymodel.text.tokenizer import Tokenizer

__all__ = ["StreamDecoder", "Tokenizer", "atomic_file"]
