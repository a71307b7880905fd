"""Language models from first principles, on kernels you can read."""

from pymodel import cuda, nn, ops, optim
from pymodel.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from pymodel.device import (
    device,
    empty_cache,
    get_default_device,
    get_num_threads,
    memory_stats,
    reset_peak_memory,
    set_default_device,
    set_num_threads,
    synchronize,
    training_dtype,
)
from pymodel.ops import get_float32_matmul_precision, rand, randn, set_float32_matmul_precision
from pymodel.random import get_rng_state, initial_seed, manual_seed, set_rng_state
from pymodel.tensor import Tensor, arange, empty, from_dlpack, from_numpy, full, ones, tensor, zeros

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "arange",
    "cuda",
    "device",
    "empty",
    "empty_cache",
    "enable_grad",
    "from_dlpack",
    "from_numpy",
    "full",
    "get_default_device",
    "get_float32_matmul_precision",
    "get_num_threads",
    "get_rng_state",
    "initial_seed",
    "is_grad_enabled",
    "manual_seed",
    "memory_stats",
    "nn",
    "no_grad",
    "ones",
    "ops",
    "optim",
    "rand",
    "randn",
    "reset_peak_memory",
    "set_default_device",
    "set_float32_matmul_precision",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "synchronize",
    "tensor",
    "training_dtype",
    "zeros",
]
