"""The devices beside the CPU that are here, for tests that are about devices."""

from typing import Any

import pytest

from pymodel import _core

_MISSING = {name: _core.why_unavailable(name) for name in ("simt", "cuda")}
_PRESENT = [name for name, reason in _MISSING.items() if not reason]
_REASON = "; ".join(f"{name}: {reason}" for name, reason in _MISSING.items())

# Where none is here, one parameter that is skipped with the reasons.
ACCELERATORS: list[Any] = _PRESENT or [pytest.param("simt", marks=pytest.mark.skip(reason=_REASON))]
EVERYWHERE = ["cpu", *ACCELERATORS]
