"""Ctrl-C and SIGTERM as requests to stop after the step."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after the step was finished and saved.

    Attributes:
        signal_number: SIGINT or SIGTERM.
        step: optimizer steps that are done.
        checkpoint: the folder to resume from; None when checkpoints are off or there was nothing to save.
    """

    def __init__(self, signal_number: int, step: int, checkpoint: Path | None) -> None:
        self.signal_number, self.step, self.checkpoint = signal_number, step, checkpoint
        how = f"resume_from_checkpoint={str(checkpoint)!r} continues" if checkpoint else "nothing was saved"
        super().__init__(f"{self.signal_name}: training stopped after step {step}; {how}")

    @property
    def signal_name(self) -> str:
        """How the user calls the signal."""
        return "Ctrl-C" if self.signal_number == signal.SIGINT else "SIGTERM"


class StopRequests:
    """While entered, the first SIGINT or SIGTERM is noted; a second one interrupts at once.

    Signals reach only the main thread of a program: elsewhere nothing is noted.

    Attributes:
        received: the number of the signal that came, None while none has.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            # None stands for a handler that was not installed by Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
