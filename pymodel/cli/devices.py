"""The device that a command runs on."""

import pymodel
from pymodel.errors import DeviceError


def choose_device(name: str) -> str:
    """The device of this name; for "auto" a GPU if there is one that this build can use.

    Raises:
        DeviceError: this build or this machine has no such device.
    """
    if name != "auto":
        return str(pymodel.device(name))
    try:
        return str(pymodel.device("cuda"))
    except DeviceError:
        return "cpu"
