"""Small leaves for the tests of the tape."""

from typing import Any

import numpy as np

import pymodel as pm


def leaf(*values: float) -> Any:
    """A float32 vector that requires grad; of type Any, because its gradient is known to be there."""
    return pm.tensor(np.array(values, dtype=np.float32), requires_grad=True)


def shares_memory(a: pm.Tensor, b: pm.Tensor) -> bool:
    return np.shares_memory(a.numpy(), b.numpy())
