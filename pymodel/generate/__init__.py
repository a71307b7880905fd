"""Text generation: greedy, sampled and by beams, batched, streamed."""

from pymodel.generate.generate import GenerateOutput, generate
from pymodel.generate.options import GenerationOptions
from pymodel.generate.stop_strings import StopStrings
from pymodel.generate.streaming import GenerationResponse, Streamer, TextStreamer, stream_generate

__all__ = [
    "GenerateOutput",
    "GenerationOptions",
    "GenerationResponse",
    "StopStrings",
    "Streamer",
    "TextStreamer",
    "generate",
    "stream_generate",
]
