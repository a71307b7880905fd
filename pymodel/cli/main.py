"""Finds the command, runs it, and turns what a user can mend into one line on stderr."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from pymodel.cli.stopped import CommandStopped
from pymodel.errors import ConfigError, PymodelError

# name: what it does, in a line. Each lives in the module of its name (- becomes _), imported when asked for.
COMMANDS = {
    "quickstart": "train a small GPT on the built-in corpus, in about two minutes",
    "pretrain": "train a GPT on your own text, from nothing or from a model folder",
    "generate": "write text with a trained model",
    "embed": "turn sentences into vectors, or rank pairs of them",
    "fill-mask": "guess the words that are missing from a text",
    "classify": "tell the classes of texts, or of the names in them",
    "convert": "rewrite a model folder in another dtype or in other shards",
    "bench": "time kernels, training and generation beside torch and others",
    "info": "show the instruction set, threads, devices and versions in use",
}
HELP = """usage: pymodel COMMAND [OPTIONS]

Language models from first principles, on kernels you can read.

commands:
{commands}

  pymodel COMMAND --help   explain a command, its options and their defaults
  pymodel --version        print the version

examples:
  pymodel quickstart
  pymodel pretrain --data books/ --out model --max-steps 2000
  pymodel generate --model model --prompt "It was" --max-new-tokens 200

exit codes: 0 done, 1 a benchmark disagreed or was slower than allowed, 2 something you can mend (one
line on stderr says what; PYMODEL_DEBUG=1 shows where it came from), 130 stopped by Ctrl-C.
"""
USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: what follows the program's name; those of this process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get("PYMODEL_DEBUG") == "1":
        return _dispatch(words)
    try:
        return _dispatch(words)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except MemoryError as problem:
        return _complain(
            f"not enough memory ({_text(problem)}); lower --batch-size, --seq-len or the model's size"
        )
    except (PymodelError, OSError) as problem:
        return _complain(_text(problem))


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
        print(HELP.format(commands="\n".join(lines)), end="")
        return 0
    if words[0] in ("-V", "--version"):
        from pymodel import __version__

        print(f"pymodel {__version__}")
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}"
        raise ConfigError(f"unknown command {words[0]!r}; {hint}")
    command = importlib.import_module(f"pymodel.cli.{words[0].replace('-', '_')}")
    return command.run(words[1:]) or 0


def _text(problem: BaseException) -> str:
    """An error in one line; the system's own name the file first."""
    if isinstance(problem, OSError) and problem.strerror:
        file = f"{problem.filename}: " if problem.filename else ""
        return f"{file}{problem.strerror}"
    return " ".join(str(problem).split()) or type(problem).__name__


def _complain(message: str) -> int:
    print(f"pymodel: error: {message}", file=sys.stderr)
    return USER_ERROR


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    print(f"pymodel: {_text(interrupt) if interrupt.args else 'stopped by Ctrl-C'}", file=sys.stderr)
    return interrupt.exit_code if isinstance(interrupt, CommandStopped) else INTERRUPTED
