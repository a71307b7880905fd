"""Strings at which generation stops, found in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on until a stop string appears, and never a part of one.

    A stop string may span tokens, so text that could be the beginning of one waits until it is
    clear; with no stop strings everything passes at once.

    Args:
        stops: strings, not empty.

    Attributes: `found`, the stop string that appeared, or None.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """Takes a piece of text and returns what is safe to show, nothing after a stop string."""
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(text.index(stop), stop) for stop in self._stops if stop in text]
        if places:
            place, self.found = min(places, key=lambda found: found[0])
            self._held = ""
            return text[:place]
        waiting = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - waiting :]
        return text[: len(text) - waiting]

    def finish(self) -> str:
        """Returns what still waits, when the text ended without a stop string."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that begins the stop string."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
