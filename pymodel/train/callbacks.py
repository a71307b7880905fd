"""Hooks into the training loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymodel.train.arguments import TrainingArguments
from pymodel.train.state import TrainerControl, TrainerState


class TrainerCallback:
    """Base of callbacks: override what you need, under Hugging Face's names.

    Every hook gets the arguments, the state, the control (set its flags to ask for something) and by keyword
    the `model`, `optimizer`, `lr_scheduler` and `processing_class` of the run; `on_step_end` also `loss`
    (on a GPU of the step before, unless this one is logged: nobody waits for the newest),
    `on_log` also `logs`, `on_evaluate` also `metrics`, `on_save` also `checkpoint` (its folder).
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """Before the first step, after a checkpoint was loaded."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """Before each optimizer step."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """After each optimizer step, before it is logged, evaluated and saved."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """After a line was added to the log; `logs` is that line."""

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """After each batch of an evaluation."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """After an evaluation; `metrics` is its result."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """After a checkpoint has its name; `checkpoint` is its folder."""

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> None:
        """When training is over, also when an error or Ctrl-C ended it."""


class CallbackList:
    """Calls one hook of several callbacks, in the order they were given."""

    def __init__(self, callbacks: Iterable[TrainerCallback]) -> None:
        # A class stands for an instance of it, as in transformers.
        self.callbacks = [item() if isinstance(item, type) else item for item in callbacks]

    def call(
        self,
        hook: str,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **context: Any,
    ) -> None:
        """Calls the method named `hook` of each."""
        for callback in self.callbacks:
            getattr(callback, hook)(args, state, control, **context)
