"""Errors that a user can mend: each message names the thing, what was wrong and the way out.

The command line prints these as one line; everything else that escapes is a defect of ours.
"""


class PymodelError(Exception):
    """Base of every error that pymodel raises about what the user gave it."""


class DataError(PymodelError, ValueError):
    """Text or token data that cannot be read or is of no use."""


class ConfigError(PymodelError, ValueError):
    """A configuration with an unknown key, or with numbers that do not fit together."""


class CheckpointError(PymodelError, ValueError):
    """A model folder or checkpoint that is missing, truncated or of another shape."""


class DeviceError(PymodelError, RuntimeError):
    """A device that this build or this machine does not have."""


class TrainingError(PymodelError, RuntimeError):
    """A training run that cannot go on, such as one whose loss is no longer a number."""
