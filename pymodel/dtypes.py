"""The dtypes of tensors by name, and NumPy's types for them (bfloat16 through ml_dtypes)."""

from __future__ import annotations

import ml_dtypes
import numpy as np

_NUMPY_DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _NUMPY_DTYPES.items()}
# Compiled code and NumPy exchange these as words of 16 bits: the buffer protocol has no bfloat16.
TRAVELS_AS_UINT16 = ("float16", "bfloat16")


def dtype_of(array: np.ndarray) -> str:
    """Our name of a NumPy array's dtype; TypeError when we have none."""
    name = _NAMES.get(array.dtype) or array.dtype.name  # the name of a type in foreign byte order
    if name not in _NUMPY_DTYPES:
        known = ", ".join(_NUMPY_DTYPES)
        raise TypeError(
            f"arrays of dtype {name} have no tensor counterpart; expected one of {known}; "
            "convert it, for example with .astype(np.float32)"
        )
    return name


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of one of our names; TypeError for an unknown one."""
    if name not in _NUMPY_DTYPES:
        raise TypeError(f"dtype {name!r} is unknown; expected one of {', '.join(_NUMPY_DTYPES)}")
    return _NUMPY_DTYPES[name]
