"""Text generation: greedy and sampled, batched, streamed."""

from pymodel.generate.generate import generate
from pymodel.generate.options import GenerationOptions
from pymodel.generate.stop_strings import StopStrings
from pymodel.generate.streaming import GenerationResponse, Streamer, TextStreamer, stream_generate

__all__ = [
    "GenerationOptions",
    "GenerationResponse",
    "StopStrings",
    "Streamer",
    "TextStreamer",
    "generate",
    "stream_generate",
]
