"""Training: arguments, the loop, callbacks, checkpoints and the loss plot."""

from pymodel.train.arguments import TrainingArguments
from pymodel.train.callbacks import TrainerCallback
from pymodel.train.checkpoint import choose_checkpoint, latest_checkpoint
from pymodel.train.examples import ExampleBatches, pad_examples
from pymodel.train.interrupts import TrainingInterrupted
from pymodel.train.metrics_file import METRICS_FILE, MetricsFile, read_metrics
from pymodel.train.plot import plot_losses
from pymodel.train.progress import ProgressCallback
from pymodel.train.state import TrainerControl, TrainerState
from pymodel.train.trainer import Trainer, TrainOutput

__all__ = [
    "METRICS_FILE",
    "ExampleBatches",
    "MetricsFile",
    "ProgressCallback",
    "TrainOutput",
    "Trainer",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "TrainingArguments",
    "TrainingInterrupted",
    "choose_checkpoint",
    "latest_checkpoint",
    "pad_examples",
    "plot_losses",
    "read_metrics",
]
