"""Types of the compiled module. Every op's entry points stand under the name of their bindings file.

Arrays that a kernel fills are given by the caller; arguments are checked there, in C++.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# -- array.cpp ----------------------------------------------------------------------------------------

class Array:
    """Shape, strides and dtype over shared storage."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def numel(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def contiguous(self) -> bool: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def data_ptr(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def shares_storage(self, other: Array, /) -> bool: ...
    def reshape(self, shape: Sequence[int], /) -> Array: ...
    def permute(self, dims: Sequence[int], /) -> Array: ...
    def slice(self, dim: int, start: int, stop: int, step: int, /) -> Array: ...
    def select(self, dim: int, index: int, /) -> Array: ...
    def expand(self, shape: Sequence[int], /) -> Array: ...
    def unsqueeze(self, dim: int, /) -> Array: ...
    def empty_like(self) -> Array: ...
    def numpy(self) -> np.ndarray[Any, Any]: ...

def empty(shape: Sequence[int], dtype: str, device: str, /) -> Array: ...
def from_numpy(source: np.ndarray[Any, Any], dtype: str, /) -> Array: ...
def check_device(name: str, /) -> str: ...
def isa() -> str: ...
def detected_isa() -> str: ...
def num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def build_options() -> str: ...
def empty_cache() -> None: ...
def reset_peak_memory() -> None: ...
def memory_stats() -> dict[str, int]: ...

# -- dlpack.cpp ---------------------------------------------------------------------------------------

def to_dlpack(array: Array, versioned: bool, copied: bool) -> Any: ...
def from_dlpack(capsule: Any, /) -> Array: ...
def dlpack_device(array: Array, /) -> tuple[int, int]: ...

# -- gemm.cpp -----------------------------------------------------------------------------------------

def gemm(
    a: Array,
    b: Array,
    out: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    preactivation: Array | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    activation: str = "none",
    activation_gradient: bool = False,
) -> None: ...
def batched_gemm(a: Array, b: Array, out: Array) -> None: ...

# -- layer_norm.cpp -----------------------------------------------------------------------------------

def layer_norm_forward(
    x: Array,
    residual: Array | None,
    sum: Array | None,
    weight: Array | None,
    bias: Array | None,
    y: Array,
    mean: Array | None,
    rstd: Array,
    eps: float,
    /,
) -> None: ...
def layer_norm_backward(
    dy: Array,
    dsum: Array | None,
    input: Array,
    weight: Array | None,
    mean: Array | None,
    rstd: Array,
    dx: Array,
    dweight: Array | None,
    dbias: Array | None,
    accumulate: bool,
    /,
) -> None: ...

# -- elementwise.cpp ----------------------------------------------------------------------------------

def fill(out: Array, value: float, /) -> None: ...
def copy(source: Array, out: Array, /) -> None: ...
def binary(op: str, a: Array | float, b: Array | float, out: Array | None = None) -> Array: ...
def unary(op: str, x: Array, out: Array | None = None, low: float = 0.0, high: float = 0.0) -> Array: ...
def unary_backward(op: str, dy: Array, x: Array, low: float = 0.0, high: float = 0.0) -> Array: ...
def where(condition: Array, a: Array | float, b: Array | float, /) -> Array: ...

# -- reduce.cpp ---------------------------------------------------------------------------------------

def reduce(
    op: str,
    x: Array,
    out: Array | None = None,
    dims: Sequence[int] | None = None,
    keepdim: bool = False,
    divisor: float = 1.0,
    center: Array | None = None,
) -> Array: ...
def sum_to_shape(x: Array, shape: Sequence[int], /) -> Array: ...
def argmax(x: Array, dim: int, smallest: bool, keepdim: bool, /) -> Array: ...
def all_finite(x: Array, /) -> bool: ...

# -- activation.cpp -----------------------------------------------------------------------------------

def activation(name: str, x: Array, out: Array, /) -> None: ...
def activation_backward(name: str, x: Array, dy: Array, dx: Array, /) -> None: ...

# -- adamw.cpp, sgd.cpp, grad_norm.cpp: a list has one entry per parameter -----------------------------

def adamw(
    parameters: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    masters: Sequence[Array | None],
    settings: Sequence[tuple[float, float, float, float, float, int, bool]],
    grad_scale: float,
    /,
) -> None: ...
def sgd(
    parameters: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array | None],
    masters: Sequence[Array | None],
    settings: Sequence[tuple[float, float, float, float, bool]],
    grad_scale: float,
    /,
) -> None: ...
def grad_norm(grads: Sequence[Array], /) -> float: ...
def grad_scale(grads: Sequence[Array], scale: float, /) -> None: ...

# -- attention.cpp ------------------------------------------------------------------------------------

class AttentionCall:
    """The checked arguments of one call, for its forward and backward."""

    def __init__(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None,
        query_lengths: Array | None,
        key_lengths: Array | None,
        scale: float,
        window_left: int,
        window_right: int,
        dropout_p: float,
        seed: int,
        offset: int,
    ) -> None: ...

def attention_forward(call: AttentionCall, out: Array, lse: Array, /) -> None: ...
def attention_backward(
    call: AttentionCall,
    out: Array,
    dout: Array,
    lse: Array,
    dq: Array | None,
    dk: Array | None,
    dv: Array | None,
    /,
) -> None: ...
def attention_bias_gradient(
    call: AttentionCall, out: Array, dout: Array, lse: Array, dbias: Array, /
) -> None: ...
def attention_dropout_mask(mask: Array, dropout_p: float, seed: int, offset: int, /) -> None: ...

# -- softmax.cpp ---------------------------------------------------------------------------------------

def softmax_forward(x: Array, y: Array, logarithm: bool, /) -> None: ...
def softmax_backward(dy: Array, y: Array, dx: Array, logarithm: bool, /) -> None: ...

# -- cross_entropy.cpp ---------------------------------------------------------------------------------

def cross_entropy_forward(
    logits: Array,
    targets: Array,
    losses: Array,
    statistics: Array,
    scale: Array,
    total: Array,
    ignore_index: int,
    label_smoothing: float,
    mean: bool,
    /,
) -> int: ...
def cross_entropy_backward(
    logits: Array,
    targets: Array,
    statistics: Array,
    scale: Array,
    dlosses: Array,
    dlogits: Array,
    ignore_index: int,
    label_smoothing: float,
    /,
) -> None: ...

# -- embedding.cpp -------------------------------------------------------------------------------------

def embedding_forward(indices: Array, weight: Array, y: Array, /) -> int: ...
def embedding_backward(
    indices: Array, dy: Array, dweight: Array, padding_index: int, accumulate: bool, /
) -> None: ...

# -- dropout.cpp ---------------------------------------------------------------------------------------

def dropout(x: Array, residual: Array | None, y: Array, p: float, seed: int, offset: int, /) -> None: ...

# -- random.cpp ----------------------------------------------------------------------------------------

def random_uniform(out: Array, low: float, width: float, seed: int, offset: int, /) -> None: ...
def random_normal(out: Array, mean: float, deviation: float, seed: int, offset: int, /) -> None: ...
def philox(seed: int, counter_low: int, counter_high: int, /) -> tuple[int, int, int, int]: ...
