"""Optimizers, gradient clipping and learning-rate schedules, under the names of torch and transformers."""

from pymodel.optim.adamw import Adam, AdamW
from pymodel.optim.clip import clip_coefficient, clip_grad_norm_, grad_norm
from pymodel.optim.optimizer import Optimizer
from pymodel.optim.schedules import SCHEDULES, LRScheduler, get_scheduler
from pymodel.optim.sgd import SGD

__all__ = [
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "LRScheduler",
    "Optimizer",
    "clip_coefficient",
    "clip_grad_norm_",
    "get_scheduler",
    "grad_norm",
]
