"""The work behind `pymodel quickstart`: a preset of `pretrain` with a story around it."""

from __future__ import annotations

from rich.console import Console

from pymodel.cli.options import shown_path
from pymodel.cli.output import say
from pymodel.cli.pretrain import PretrainOptions
from pymodel.cli.quickstart import QuickstartOptions
from pymodel.cli.run_pretrain import PretrainResult, run_training, show_sample
from pymodel.cli.stopped import CommandStopped
from pymodel.data import STANDARD_LIBRARY, gzip_bits_per_byte
from pymodel.errors import ConfigError
from pymodel.train import TrainingInterrupted

# Steps that two cores do in about a second with the preset below. The preset was chosen for the held-out
# loss that two minutes reach: wider or deeper models see too little text in that time.
_STEPS_PER_SECOND = 8.0
_PROMPT = "def "


def quickstart(options: QuickstartOptions) -> None:
    """Runs `pymodel quickstart`."""
    if options.seconds < 1:
        raise ConfigError(f"--seconds: expected 1 or more, got {options.seconds}")
    steps = options.max_steps if options.max_steps is not None else round(options.seconds * _STEPS_PER_SECOND)
    preset = PretrainOptions(
        data=(STANDARD_LIBRARY,),
        out=options.out,
        n_layer=4,
        n_head=4,
        n_embd=128,
        seq_len=128,
        vocab_size=4096,
        max_steps=steps,
        batch_size=8,
        learning_rate=4e-3,
        warmup_ratio=0.05,
        held_out=0.04,
        logging_steps=10,
        save_steps=0,
        seed=options.seed,
        device="cpu",
    )
    out, progress = Console(), Console(stderr=True)
    say(
        out,
        f"Training a small GPT on the source of Python's standard library: {steps} steps, about "
        f"{max(1, round(steps / _STEPS_PER_SECOND / 60))} min on 2 cores.",
    )
    try:
        result = run_training(
            preset,
            progress,
            lambda model, text: show_sample(
                out, "before training", model, text.tokenizer, _PROMPT, options.seed
            ),
        )
    except TrainingInterrupted as interrupt:
        message = (
            f"stopped by {interrupt.signal_name} after step {interrupt.step}; run it again to start anew"
        )
        raise CommandStopped(message, interrupt.signal_number) from None
    show_sample(out, "after training", result.model, result.text.tokenizer, _PROMPT, options.seed)
    _tell_quality(out, result)
    _tell_what_next(out, options.out)


def _tell_quality(out: Console, result: PretrainResult) -> None:
    part = result.text.held_out_part
    if part is None:
        return
    packed = gzip_bits_per_byte(document.text for document in part)
    model = result.evaluation["eval_bits_per_byte"]
    verdict = "fewer" if model < packed else "more"
    say(
        out,
        f"\n{part.document_count} files held out, {part.text_bytes / 1e3:,.0f} kB. "
        "Bits needed for each byte:\n"
        f"  this model  {model:.3f}   (loss {result.evaluation['eval_loss']:.3f} nats per token)\n"
        f"  gzip -9     {packed:.3f}\n"
        f"The model needs {abs(1 - model / packed):.0%} {verdict} than gzip.",
    )


def _tell_what_next(out: Console, folder: str) -> None:
    shown = shown_path(folder)
    say(
        out,
        f"\nThe model is in {shown}/, its losses in {shown}/metrics.jsonl and {shown}/loss.png. Try next:\n"
        f'  pymodel generate --model {shown} --prompt "import " --max-new-tokens 200\n'
        f"  pymodel pretrain --data YOUR_TEXT --out mymodel --max-steps 2000\n"
        f"  pymodel info",
    )
