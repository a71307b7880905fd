"""The work behind `pymodel pretrain` and `pymodel quickstart`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import pymodel
from pymodel.cli.corpus import PreparedText, prepare_text
from pymodel.cli.devices import choose_device
from pymodel.cli.options import shown_path
from pymodel.cli.output import say
from pymodel.cli.pretrain import PretrainOptions
from pymodel.cli.sampling import sample_text
from pymodel.cli.stopped import CommandStopped
from pymodel.data import LanguageModelBatches, evaluation_windows
from pymodel.errors import ConfigError
from pymodel.models import GPT2Config, GPT2LMHeadModel
from pymodel.models.checkpoint import WeightFiles
from pymodel.text import Tokenizer
from pymodel.train import (
    METRICS_FILE,
    Trainer,
    TrainingArguments,
    TrainingInterrupted,
    choose_checkpoint,
    plot_losses,
    read_metrics,
)

PLOT_FILE = "loss.png"
_SAMPLE_TOKENS = 100


@dataclass(frozen=True)
class PretrainResult:
    """What a finished run leaves for its command to tell.

    Attributes:
        model, text: what was trained, and on what.
        evaluation: the last one, empty without held-out text.
    """

    model: GPT2LMHeadModel
    text: PreparedText
    evaluation: dict[str, Any]


def pretrain(options: PretrainOptions) -> None:
    """Runs `pymodel pretrain`: trains, and prints what came of it."""
    out, progress = Console(), Console(stderr=True)
    try:
        result = run_training(options, progress)
    except TrainingInterrupted as interrupt:
        how = (
            f"saved {shown_path(interrupt.checkpoint)}; go on with the same command and --resume auto"
            if interrupt.checkpoint
            else "nothing saved, since --save-steps is 0"
        )
        message = f"stopped by {interrupt.signal_name} after step {interrupt.step}, {how}"
        raise CommandStopped(message, interrupt.signal_number) from None
    loss = result.evaluation.get("eval_loss")
    if loss is not None:
        perplexity, bits = (result.evaluation[f"eval_{name}"] for name in ("perplexity", "bits_per_byte"))
        say(
            out,
            f"held-out loss {loss:.4f} nats per token (perplexity {perplexity:.2f}), "
            f"{bits:.3f} bits per byte",
        )
    show_sample(out, "sample", result.model, result.text.tokenizer, options.prompt, options.seed)
    say(out, f"\nmodel in {shown_path(options.out)}")


def run_training(
    options: PretrainOptions,
    console: Console,
    before: Callable[[GPT2LMHeadModel, PreparedText], None] | None = None,
) -> PretrainResult:
    """Prepares the text, builds the model, trains it and writes the model folder.

    Args:
        options: all of them.
        console: shows the progress.
        before: called with the model and the text before the first step.
    """
    out = Path(options.out)
    device = choose_device(options.device)
    # What cannot be should show now, not after an hour of tokenizing.
    args = _arguments(options)
    if not options.init_from:
        _config(options, options.vocab_size)
    out.mkdir(parents=True, exist_ok=True)
    text = prepare_text(
        options.data,
        out / "data",
        options.vocab_size,
        options.held_out,
        options.tokenizer or options.init_from,
        console,
    )
    pymodel.manual_seed(options.seed)
    model = _model(options, text.tokenizer, _dtype(options, device), device)
    say(console, _summary(model, text))
    if before is not None:
        before(model, text)
    trainer = _trainer(options, args, model, text)
    trainer.train(resume_from_checkpoint=None if options.resume == "no" else options.resume)
    trainer.save_model()
    _plot(out, console)
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    return PretrainResult(model, text, evaluations[-1] if evaluations else {})


def show_sample(
    console: Console, name: str, model: GPT2LMHeadModel, tokenizer: Tokenizer, prompt: str, seed: int
) -> None:
    """Prints what a model writes, under a rule."""
    console.rule(name, style="dim")
    text = sample_text(model, tokenizer, prompt, _SAMPLE_TOKENS, seed)
    say(console, text)
    console.rule(style="dim")


def _config(options: PretrainOptions, vocab_size: int, **tokens: int | None) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=options.seq_len,
        n_embd=options.n_embd,
        n_layer=options.n_layer,
        n_head=options.n_head,
        resid_pdrop=options.dropout,
        embd_pdrop=options.dropout,
        attn_pdrop=options.dropout,
        **tokens,
    )


def _dtype(options: PretrainOptions, device: str) -> str:
    """The dtype to train in: a run goes on in its own, wherever it began."""
    if options.dtype != "auto":
        return options.dtype
    checkpoint = choose_checkpoint(options.out, None if options.resume == "no" else options.resume)
    if checkpoint is not None:
        return WeightFiles(checkpoint).dtype
    return pymodel.training_dtype(device)


def _model(options: PretrainOptions, tokenizer: Tokenizer, dtype: str, device: str) -> GPT2LMHeadModel:
    if options.init_from:
        return _model_to_go_on_with(options, options.init_from, tokenizer, dtype, device)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return GPT2LMHeadModel(_config(options, tokenizer.vocab_size, **ends), dtype, device)


def _model_to_go_on_with(
    options: PretrainOptions, folder: str, tokenizer: Tokenizer, dtype: str, device: str
) -> GPT2LMHeadModel:
    config = GPT2Config.from_pretrained(folder)
    usual = PretrainOptions(data=(), out="")
    for name in ("n_layer", "n_head", "n_embd"):
        wanted, has = getattr(options, name), getattr(config, name)
        if wanted not in (getattr(usual, name), has):
            raise ConfigError(
                f"--{name.replace('_', '-')}: the model in {folder} has {has}, got {wanted}; leave it out"
            )
    if options.seq_len > config.n_positions:
        raise ConfigError(
            f"--seq-len: the model in {folder} reads at most {config.n_positions} tokens, "
            f"got {options.seq_len}"
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"--tokenizer: has {tokenizer.vocab_size} tokens, the model in {folder} has {config.vocab_size}; "
            "leave it out to use the model's own"
        )
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = options.dropout
    return GPT2LMHeadModel.from_pretrained(folder, dtype, device, config=config)


def _arguments(options: PretrainOptions) -> TrainingArguments:
    if options.max_steps < 0:
        raise ConfigError(f"--max-steps: expected 0 or more, got {options.max_steps}")
    return TrainingArguments(
        output_dir=options.out,
        overwrite_output_dir=options.overwrite,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        learning_rate=options.learning_rate,
        lr_scheduler_type=options.lr_scheduler_type,
        warmup_steps=options.warmup_steps,
        warmup_ratio=options.warmup_ratio,
        weight_decay=options.weight_decay,
        adam_beta1=options.adam_beta1,
        adam_beta2=options.adam_beta2,
        max_grad_norm=options.max_grad_norm,
        logging_steps=options.logging_steps,
        eval_strategy="steps" if options.held_out else "no",
        # The last step is evaluated whatever this says.
        eval_steps=max(1, options.max_steps) if options.eval_steps is None else options.eval_steps,
        save_strategy="steps" if options.save_steps else "no",
        save_steps=options.save_steps or 1,
        save_total_limit=options.save_total_limit,
        seed=options.seed,
    )


def _trainer(
    options: PretrainOptions, args: TrainingArguments, model: GPT2LMHeadModel, text: PreparedText
) -> Trainer:
    held_out = text.held_out
    return Trainer(
        model,
        args,
        train_dataset=LanguageModelBatches(text.train, options.batch_size, options.seq_len, options.seed),
        eval_dataset=None
        if held_out is None
        else functools.partial(evaluation_windows, held_out, options.batch_size, options.seq_len),
        processing_class=text.tokenizer,
        eval_text_bytes=None if held_out is None else held_out.header.text_bytes,
    )


def _summary(model: GPT2LMHeadModel, text: PreparedText) -> str:
    weights = sum(parameter.numel() for _, parameter in model.named_parameters())
    held_out = len(text.held_out) if text.held_out else 0
    return (
        f"{weights / 1e6:.2f}M weights in {model.dtype}, {model.config.vocab_size} tokens in the vocabulary; "
        f"text: {len(text.train):,} tokens to learn, {held_out:,} held out, "
        f"{text.train.bytes_per_token:.2f} bytes per token"
    )


def _plot(out: Path, console: Console) -> None:
    try:
        plot_losses(read_metrics(out / METRICS_FILE), out / PLOT_FILE)
    except ConfigError as hint:  # the picture is an extra: a model without it is still a model
        say(console, f"no {PLOT_FILE}: {hint}")
