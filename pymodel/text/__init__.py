"""Text to token ids and back."""

from pymodel.text.batch_encoding import BatchEncoding
from pymodel.text.options import EncodingOptions
from pymodel.text.streaming import StreamDecoder
from pymodel.text.tokenizer import AutoTokenizer, Tokenizer

__all__ = ["AutoTokenizer", "BatchEncoding", "EncodingOptions", "StreamDecoder", "Tokenizer"]
