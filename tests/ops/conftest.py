"""The tests of this folder run on every device: the fixture makes it the one where tensors go."""

from collections.abc import Iterator

import pytest

import pymodel as pm
from pymodel import _core

# The emulator wherever it was built in; a GPU only when it is named.
DEFAULT_DEVICES = ["cpu", "simt"] if not _core.why_unavailable("simt") else ["cpu"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    devices = metafunc.config.getoption("--device") or DEFAULT_DEVICES
    if metafunc.definition.get_closest_marker("host_only"):
        devices = [name for name in devices if name == "cpu"] or [skipped("runs on the CPU alone")]
    metafunc.parametrize("device", [checked(name) for name in devices], indirect=True)


def checked(name: object) -> object:
    """The device, or a parameter that is skipped where it is not there."""
    if not isinstance(name, str) or name == "cpu":
        return name
    reason = _core.why_unavailable(name.partition(":")[0])
    return skipped(f"{name}: {reason}") if reason else name


def skipped(reason: str) -> object:
    return pytest.param("cpu", marks=pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that tensors go to in this test."""
    with pm.device(request.param) as name:
        yield name
