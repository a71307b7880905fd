"""Help, versions and errors of the command line."""

import subprocess

import pytest
from command_line import command, environment, run, run_process

import pymodel
from pymodel.cli import info
from pymodel.cli.main import COMMANDS, main
from pymodel.errors import ConfigError


def test_cli_help_lists_the_commands() -> None:
    for shown in (run().stdout, run("help").stdout, run_process("--help").stdout):
        assert all(f"\n  {name}" in shown for name in COMMANDS)
        assert "examples:" in shown
    assert run("--version").stdout == f"pymodel {pymodel.__version__}\n"


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "pretrain",
            "--data --out --max-steps --batch-size --seq-len --n-layer --n-head --n-embd --dropout "
            "--learning-rate --save-steps --seed --device --dtype --resume --config --init-from",
        ),
        (
            "generate",
            "--model --prompt --max-new-tokens --temperature --top-k --top-p --min-p "
            "--repetition-penalty --stop --seed --greedy",
        ),
        ("quickstart", "--out --seconds --max-steps --seed"),
        (
            "bench",
            "--against --json --compare --fail-above --plot --threads --dtype --rounds --quick --list "
            "--llm-c",
        ),
        ("convert", "--model --out --dtype --max-shard-size"),
        ("embed", "--model --input --out --pairs --batch-size --device --dtype"),
        ("fill-mask", "--model --text --top-k --json --device --dtype"),
        ("classify", "--model --text --input --pairs --top-k --json --batch-size --device --dtype"),
        ("info", ""),
    ],
)
def test_cli_help_teaches(command: str, flags: str) -> None:
    shown = run(command, "--help").stdout
    assert "examples:\n  pymodel " in shown
    assert all(flag in shown.split() for flag in flags.split())
    # Every flag but --help says its default, or that it is required.
    assert shown.count("(default: ") + shown.count("(required)") >= len(flags.split())


def test_cli_starts_without_the_heavy_modules() -> None:
    """`--help` answers at once: matplotlib, tokenizers and the models are imported by the work only."""
    program = (
        "import sys; from pymodel.cli import main; main(['--help']); "
        "heavy = {'tyro', 'yaml', 'tokenizers', 'matplotlib', 'pymodel.train', 'pymodel.data'}; "
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([command()[0], "-c", program], capture_output=True, text=True, env=environment())
    assert result.stderr == "set()\n"


def test_cli_info_names_what_it_runs_on() -> None:
    shown = run_process("info", PYMODEL_CPU_ISA="generic", OMP_NUM_THREADS="1").stdout
    assert "generic (forced by PYMODEL_CPU_ISA" in shown
    assert "1 (OMP_NUM_THREADS: 1)" in shown
    for name in ("GPU", "build", "memory", "numpy", "tokenizers", "Python"):
        assert name in shown


def test_cli_unknown_command_names_the_nearest() -> None:
    shown = run("pretrian", code=2).stderr
    assert shown == "pymodel: error: unknown command 'pretrian'; did you mean 'pretrain'?\n"


@pytest.mark.parametrize(
    "words", [["pretrain"], ["pretrain", "--dat", "x"], ["generate", "--model", "x", "--top-k", "many"]]
)
def test_cli_mistyped_flags_end_with_code_2(words: list[str]) -> None:
    result = subprocess.run(command(*words), capture_output=True, text=True, env=environment())
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "--help" in result.stderr


def test_cli_errors_of_the_system_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(problem: BaseException) -> None:
        def run(words: object) -> None:
            raise problem

        monkeypatch.setattr(info, "run", run)

    fail(OSError(28, "No space left on device", "out/model.safetensors"))
    assert main(["info"]) == 2
    assert capsys.readouterr().err == "pymodel: error: out/model.safetensors: No space left on device\n"
    fail(MemoryError("cpu: cannot allocate 9 GB"))
    assert main(["info"]) == 2
    assert "not enough memory (cpu: cannot allocate 9 GB); lower --batch-size" in capsys.readouterr().err
    fail(KeyboardInterrupt())
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "pymodel: stopped by Ctrl-C\n"


def test_cli_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYMODEL_DEBUG", "1")
    with pytest.raises(ConfigError):
        main(["nonsense"])
