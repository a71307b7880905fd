"""Arithmetic, elementary functions and choice, element by element, with NumPy's broadcasting.

Operands are tensors, NumPy arrays or Python numbers. Integers that meet floats become floats of the
tensor's dtype; two different floating dtypes are a TypeError, because the conversion that is meant
is worth writing down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pymodel import _core
from pymodel.autograd import is_grad_enabled, record, wants_grad
from pymodel.ops.arrays import converted, copy_of
from pymodel.tensor import Tensor, tensor

Operand = Tensor | np.ndarray | float

_binary = _core.binary


def raw(operand: Operand, beside: Operand) -> Any:
    """What the bindings take: an array or a number. NumPy's arrays go where `beside` is."""
    if isinstance(operand, Tensor):
        return operand._array
    if not isinstance(operand, np.ndarray):
        return operand
    return tensor(operand, device=beside.device if isinstance(beside, Tensor) else None)._array


# -- binary operations ------------------------------------------------------------------------------

# The gradients of out = a op b for a and for b, from the gradient d of out. They are of out's shape;
# a and b are arrays or numbers.
_Rule = Callable[[_core.Array, Any, Any, Any], _core.Array]


def _larger(d: _core.Array, a: Any, b: Any, out: Any) -> _core.Array:
    """d where a > b and half of it where they are equal."""
    half = _core.where(_binary("eq", a, b), _binary("mul", d, 0.5), 0.0)
    return _core.where(_binary("gt", a, b), d, half)


def _smaller(d: _core.Array, a: Any, b: Any, out: Any) -> _core.Array:
    return _larger(d, b, a, out)


def _power_base(d: _core.Array, a: Any, b: Any, out: Any) -> _core.Array:
    """d b a^(b-1), which is 0 for b = 0 even where a is 0."""
    if not isinstance(b, _core.Array):
        if b == 0:
            return _binary("mul", d, 0.0)
        return _binary("mul", d, _binary("mul", _binary("pow", a, b - 1), b))
    slope = _binary("mul", _binary("pow", a, _binary("sub", b, 1)), b)
    return _binary("mul", d, _core.where(_binary("eq", b, 0), 0.0, slope))


def _power_exponent(d: _core.Array, a: Any, b: Any, out: Any) -> _core.Array:
    """d out log(a), which is 0 for a = 0 and b >= 0, where the logarithm is infinite."""
    if not isinstance(a, _core.Array):
        slope = _binary("mul", out, math.log(a) if a > 0 else math.nan if a < 0 else 0.0)
        return _binary("mul", d, slope)
    slope = _binary("mul", out, _core.unary("log", converted(a, d.dtype)))
    at_zero = _binary("minimum", _binary("eq", a, 0), _binary("ge", b, 0))
    return _binary("mul", d, _core.where(at_zero, 0.0, slope))


def _negative(d: _core.Array) -> _core.Array:
    return _core.unary("neg", d)


# For a and for b: the rule, and which of a, b and out (o) it reads and so have to stay in memory.
_RULES: dict[str, tuple[tuple[_Rule, str], tuple[_Rule, str]]] = {
    "add": ((lambda d, a, b, out: d, ""), (lambda d, a, b, out: d, "")),
    "sub": ((lambda d, a, b, out: d, ""), (lambda d, a, b, out: _negative(d), "")),
    "mul": (
        (lambda d, a, b, out: _binary("mul", d, b), "b"),
        (lambda d, a, b, out: _binary("mul", d, a), "a"),
    ),
    "div": (
        (lambda d, a, b, out: _binary("div", d, b), "b"),
        (lambda d, a, b, out: _negative(_binary("div", _binary("mul", d, out), b)), "bo"),
    ),
    "maximum": ((_larger, "ab"), (_smaller, "ab")),
    "minimum": ((_smaller, "ab"), (_larger, "ab")),
    "pow": ((_power_base, "ab"), (_power_exponent, "abo")),
}


def _apply(name: str, a: Operand, b: Operand) -> Tensor:
    left, right = raw(a, b), raw(b, a)
    result = Tensor(_binary(name, left, right))
    first = a if isinstance(a, Tensor) and a.requires_grad else None
    second = b if isinstance(b, Tensor) and b.requires_grad else None
    if (first is not None or second is not None) and is_grad_enabled():
        _record_binary(name, result, (first, second), left, right)
    return result


def _record_binary(
    name: str, result: Tensor, inputs: tuple[Tensor | None, Tensor | None], left: Any, right: Any
) -> None:
    """Puts the operation on the tape for those inputs that are not None."""
    a, b = inputs
    (rule_a, reads_a), (rule_b, reads_b) = _RULES[name]
    reads = (reads_a if a is not None else "") + (reads_b if b is not None else "")
    shape_a, shape_b = None if a is None else a.shape, None if b is None else b.shape
    saved = (
        left if "a" in reads else None,
        right if "b" in reads else None,
        result._array if "o" in reads else None,
    )

    def backward(d: _core.Array) -> tuple[Any, ...]:
        da = None if shape_a is None else _core.sum_to_shape(rule_a(d, *saved), shape_a)
        db = None if shape_b is None else _core.sum_to_shape(rule_b(d, *saved), shape_b)
        return da, db

    record(name, result, inputs, backward)


def add(a: Operand, b: Operand) -> Tensor:
    """a + b."""
    return _apply("add", a, b)


def sub(a: Operand, b: Operand) -> Tensor:
    """a - b."""
    return _apply("sub", a, b)


def mul(a: Operand, b: Operand) -> Tensor:
    """a * b."""
    return _apply("mul", a, b)


def div(a: Operand, b: Operand) -> Tensor:
    """a / b; integers are divided as float32."""
    return _apply("div", a, b)


def pow(a: Operand, b: Operand) -> Tensor:
    """a^b; integers are raised as float32.

    The gradient of b is 0 where a is 0 and b is not negative.
    """
    if isinstance(a, Tensor) and a.is_floating_point:
        # The two common powers are cheaper and no less exact.
        if isinstance(b, (int, float)) and b == 2:
            return square(a)
        if isinstance(b, (int, float)) and b == 0.5:
            return sqrt(a)
    return _apply("pow", a, b)


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of a and b, NaN where either is; equal ones share the gradient."""
    return _apply("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of a and b, NaN where either is; equal ones share the gradient."""
    return _apply("minimum", a, b)


# -- unary operations -------------------------------------------------------------------------------


def _unary(name: str, x: Tensor, low: float = 0.0, high: float = 0.0) -> Tensor:
    array = x._array
    result = Tensor(_core.unary(name, array, low=low, high=high))
    if x.requires_grad and is_grad_enabled():

        def backward(d: _core.Array) -> _core.Array:
            return _core.unary_backward(name, d, array, low, high)

        record(name, result, (x,), backward)
    return result


def neg(x: Tensor) -> Tensor:
    """-x."""
    return _unary("neg", x) if x.is_floating_point else sub(0, x)


def abs(x: Tensor) -> Tensor:
    """|x|, with gradient 0 at 0."""
    return _unary("abs", x) if x.is_floating_point else maximum(x, sub(0, x))


def square(x: Tensor) -> Tensor:
    """x * x."""
    return _unary("square", x) if x.is_floating_point else mul(x, x)


def exp(x: Tensor) -> Tensor:
    """e^x of a floating tensor; results below the normal range may be 0."""
    return _unary("exp", x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm of a floating tensor: -infinity at 0, NaN below."""
    return _unary("log", x)


def sqrt(x: Tensor) -> Tensor:
    """Square root of a floating tensor, NaN below 0."""
    return _unary("sqrt", x)


def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x) of a floating tensor."""
    return _unary("rsqrt", x)


def reciprocal(x: Tensor) -> Tensor:
    """1 / x of a floating tensor."""
    return _unary("reciprocal", x)


def sin(x: Tensor) -> Tensor:
    """Sine of a floating tensor, in radians."""
    return _unary("sin", x)


def cos(x: Tensor) -> Tensor:
    """Cosine of a floating tensor, in radians."""
    return _unary("cos", x)


def erf(x: Tensor) -> Tensor:
    """Gauss error function of a floating tensor: 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return _unary("erf", x)


def clamp(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max]; the gradient passes where x lies within, bounds included. NaN stays.

    Raises: ValueError when neither bound is given or min exceeds max.
    """
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    if min is not None and max is not None and min > max:
        raise ValueError(f"clamp: min {min} exceeds max {max}")
    if x.is_floating_point:
        return _unary("clamp", x, -math.inf if min is None else min, math.inf if max is None else max)
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)


# -- choice -----------------------------------------------------------------------------------------


def where(condition: Tensor, a: Operand, b: Operand) -> Tensor:
    """a where the condition holds, else b.

    Args:
        condition: bool; the three shapes broadcast.
        a, b: tensors or numbers, promoted as in arithmetic.
    """
    mask = condition._array
    result = Tensor(_core.where(mask, raw(a, condition), raw(b, condition)))
    first, second = (t if isinstance(t, Tensor) and t.requires_grad else None for t in (a, b))
    if wants_grad(first, second):
        a_shape = None if first is None else first.shape
        b_shape = None if second is None else second.shape

        def backward(d: _core.Array) -> tuple[Any, ...]:
            da = None if a_shape is None else _core.sum_to_shape(_core.where(mask, d, 0.0), a_shape)
            db = None if b_shape is None else _core.sum_to_shape(_core.where(mask, 0.0, d), b_shape)
            return da, db

        record("where", result, (first, second), backward)
    return result


def masked_fill(x: Tensor, mask: Tensor, value: float) -> Tensor:
    """x with `value` where the mask (bool, broadcastable to x) holds.

    Raises: ValueError for a mask that does not broadcast to x, TypeError for a value that x's dtype
    cannot hold.
    """
    result = where(mask, value, x)
    if result.shape != x.shape:
        raise ValueError(f"masked_fill: mask {mask.shape} does not broadcast to x {x.shape}")
    if result.dtype != x.dtype:
        raise TypeError(f"masked_fill: a {x.dtype} tensor cannot hold {value!r}; convert it with .to()")
    return result


# -- copies and conversions -------------------------------------------------------------------------


def cast(x: Tensor, dtype: str) -> Tensor:
    """x in another dtype, rounded to nearest even; x itself where it already has it.

    Floats become integers by truncation; everything that is not zero becomes True. The gradient
    comes back in x's dtype.
    """
    if x.dtype == dtype:
        return x
    result = Tensor(converted(x._array, dtype))
    if result.is_floating_point and wants_grad(x):
        source = x.dtype

        def backward(d: _core.Array) -> _core.Array:
            return converted(d, source)

        record("cast", result, (x,), backward)
    return result


def clone(x: Tensor) -> Tensor:
    """A contiguous copy, through which gradients pass."""
    result = Tensor(copy_of(x._array))
    if wants_grad(x):
        record("clone", result, (x,), lambda d: d)
    return result


def contiguous(x: Tensor) -> Tensor:
    """x itself where its elements lie densely in row-major order, else a copy that does."""
    return x if x.is_contiguous() else clone(x)
