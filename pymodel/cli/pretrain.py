"""`pymodel pretrain`: train a GPT on text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pymodel.cli.options import parse

DESCRIPTION = """Train a GPT on your own text, from nothing or from a model folder.

The text is read, a share of it is held out, a byte-level tokenizer is trained on the rest, and both
become memory-mapped token files in OUT/data (used again as long as the text is the same). OUT then
holds a model folder in Hugging Face's files, metrics.jsonl, loss.png and the checkpoints.

examples:
  pymodel pretrain --data books/ --out model --max-steps 2000
  pymodel pretrain --data notes.txt more/*.md --out model --n-layer 6 --n-head 6 --n-embd 384
  pymodel pretrain --data books/ --out model --max-steps 2000 --resume auto     go on after Ctrl-C
  pymodel pretrain --data poems.txt --out poet --init-from model --learning-rate 1e-4
  pymodel pretrain --config run.yaml --seed 1        options from a file, flags over it

sizes: one step learns from batch-size x gradient-accumulation-steps x (seq-len - 1) tokens. A model
has about 12 n_layer n_embd^2 + vocab_size n_embd weights; training takes some 16 bytes for each.
"""


@dataclass
class PretrainOptions:
    """What `pymodel pretrain` is told."""

    data: tuple[str, ...]
    """Text to learn: files, folders, globs, .jsonl with "text" in each line, any of them gzipped, in UTF-8;
    or the word stdlib, the source code of Python's standard library."""
    out: str
    """Folder for the model, its checkpoints and metrics; made when missing."""
    config: str | None = None
    """YAML file with options by the names of these flags; flags override it."""

    n_layer: int = 4
    """Transformer blocks."""
    n_head: int = 4
    """Attention heads of a block; must divide n-embd."""
    n_embd: int = 256
    """Width: numbers that stand for a token inside the model."""
    seq_len: int = 256
    """Tokens in a training window, and the longest context of a new model."""
    vocab_size: int = 4096
    """Tokens of the tokenizer to train, at least 257; little text gives fewer."""
    dropout: float = 0.0
    """Share of activations dropped while training; above 0 helps when text is seen many times."""
    tokenizer: str | None = None
    """Folder with a tokenizer.json to use instead of training one."""
    init_from: str | None = None
    """Model folder to go on from; it brings its tokenizer and sizes."""

    max_steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 8
    """Windows in a batch."""
    gradient_accumulation_steps: int = 1
    """Batches in a step: the effect of a larger batch without its memory."""
    learning_rate: float = 1e-3
    """Highest learning rate. Larger models want less: 6e-4 for 124M weights, 1e-4 to go on with a model."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt"] = (
        "cosine"
    )
    """How the learning rate falls after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0; 0 takes warmup-ratio."""
    warmup_ratio: float = 0.05
    """The same as a share of all steps."""
    weight_decay: float = 0.1
    """AdamW's decay of weight matrices."""
    adam_beta1: float = 0.9
    """AdamW's memory of gradients."""
    adam_beta2: float = 0.95
    """AdamW's memory of squared gradients."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""

    held_out: float = 0.05
    """Share of the text that is not learnt from, to judge by; 0 holds out nothing."""
    logging_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    eval_steps: int | None = None
    """Steps between evaluations on the held-out text; by default only at the end."""
    save_steps: int = 500
    """Steps between checkpoints; the last step is saved too. 0 saves none."""
    save_total_limit: int | None = None
    """Checkpoints to keep, the newest ones; by default all."""
    resume: str = "no"
    """auto goes on from the latest checkpoint in OUT if there is one; or name a checkpoint folder; or no."""
    overwrite: bool = False
    """Delete the checkpoints of an earlier run in OUT and start anew."""

    prompt: str = ""
    """What the sample at the end begins with; by default the beginning of a text."""
    seed: int = 42
    """Decides the first weights, the order of the text, dropout and the sample: same seed, same bits."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU if there is one that this build can use."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of weights and activations; bfloat16 keeps float32 master weights in the optimizer. auto goes on with
    that of the checkpoint, or takes bfloat16 where the device multiplies it faster."""


def run(words: Sequence[str]) -> None:
    """Runs the command."""
    options = parse(PretrainOptions, "pretrain", DESCRIPTION, words)
    # Only now, so that --help answers at once.
    from pymodel.cli.run_pretrain import pretrain

    pretrain(options)
