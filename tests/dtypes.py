"""Our dtypes beside NumPy's, and draws for the tests of elementwise operations."""

import ml_dtypes
import numpy as np

FLOATS = ["float32", "float16", "bfloat16"]
NUMPY = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "bool": np.bool_,
}
# Each pair of shapes with its reason.


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
