"""Cross-entropy of integer targets, fused with the softmax of the logits."""

from __future__ import annotations

from pymodel import _core
from pymodel.autograd import record, wants_grad
from pymodel.ops.arrays import element_name, flat, rows
from pymodel.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    *,
    overwrite_logits: bool = False,
) -> Tensor:
    """The negative log-likelihood of the targets under the softmax of the logits.

    loss = log(sum(exp(x))) - (1 - e) x[target] - e mean(x), with e = label_smoothing, for a row x of logits

    The softmax is never stored: forward keeps the maximum and the sum of exponentials of each row,
    from which backward writes (softmax - target) * scale in one pass.

    Args:
        logits: (..., classes), float32, float16 or bfloat16; the classes are last.
        targets: (...), int64, int32 or uint8, each a class or `ignore_index`.
        ignore_index: a target that counts neither in the loss nor in the mean.
        label_smoothing: the share of probability spread evenly over all classes, in [0, 1].
        reduction: "mean" over the targets that count (0 when none does, with zero gradient), "sum",
            or "none" for one loss per target (0 where ignored).
        overwrite_logits: whether backward may write the gradient into the memory of the logits,
            which saves as much memory again. Only for logits that nothing reads any more: neither the
            caller, nor the backward of what made them (`linear` without an activation does not).

    Returns: a float32 scalar, or (...) float32 for "none": two bytes hold too few digits of a loss.
        A row that is all -inf has infinite loss and zero gradient, never NaN.

    Raises: ValueError for a target that is no class, naming it and its position, for shapes that do
        not fit and for unknown options; TypeError for other dtypes. A GPU, which is not waited for, gives
        such a row a loss of NaN without gradient, and the next call that waits raises.

    Source for the smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision", arXiv:1512.00567, section 7.
    """
    _check(logits, targets, overwrite_logits)
    check_options("cross_entropy", label_smoothing, reduction)
    shape = logits.shape
    logit_rows, labels = rows(logits._array), flat(targets._array)
    count = logit_rows.shape[0]
    losses = _core.empty([count], "float32", logits.device)
    statistics = _core.empty([count, 2], "float32", logits.device)
    scale = _core.empty([], "float32", logits.device)
    total = _core.empty([], "float32", logits.device)
    invalid = _core.cross_entropy_forward(
        logit_rows,
        labels,
        losses,
        statistics,
        scale,
        total,
        ignore_index,
        label_smoothing,
        reduction == "mean",
    )
    if invalid >= 0:
        raise invalid_target("cross_entropy", targets, invalid, shape[-1], ignore_index)
    result = Tensor(losses.reshape(shape[:-1]) if reduction == "none" else total)
    if wants_grad(logits):
        # A copy that `rows` had to make is ours alone; expanded logits share memory among themselves.
        in_place = logit_rows.contiguous and (
            overwrite_logits or not logit_rows.shares_storage(logits._array)
        )

        def backward(dloss: _core.Array) -> _core.Array:
            dlosses = flat(dloss) if reduction == "none" else dloss.expand([count])
            dlogits = logit_rows if in_place else logit_rows.empty_like()
            _core.cross_entropy_backward(
                logit_rows, labels, statistics, scale, dlosses, dlogits, ignore_index, label_smoothing
            )
            return dlogits.reshape(shape)

        record("cross_entropy", result, (logits,), backward)
    return result


def _check(logits: Tensor, targets: Tensor, overwrite_logits: bool) -> None:
    """What the binding, which sees rows, cannot say in the caller's words."""
    if logits.ndim == 0:
        raise ValueError("cross_entropy: logits must have at least one dimension, the classes")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: targets must have shape {logits.shape[:-1]} to fit logits of shape "
            f"{logits.shape}, whose last dimension is the classes, got {targets.shape}"
        )
    if overwrite_logits and logits.requires_grad and logits.is_leaf:
        raise ValueError(
            "cross_entropy: overwrite_logits is for logits that an operation made; these are a leaf, "
            "whose values would be lost"
        )


def check_options(op: str, label_smoothing: float, reduction: str) -> None:
    """Raises for options that no cross-entropy has."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction {reduction!r} is unknown; expected one of {', '.join(REDUCTIONS)}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing must lie between 0 and 1, got {label_smoothing}")


def invalid_target(op: str, targets: Tensor, position: int, classes: int, ignore_index: int) -> ValueError:
    """The error that names a target which is no class, by its flat position."""
    value = int(targets.numpy().reshape(-1)[position])
    name = element_name("targets", position, targets.shape)
    return ValueError(
        f"{op}: {name} is {value}, but the {classes} classes are numbered from 0; "
        f"mark targets that must not count with ignore_index ({ignore_index})"
    )
