"""Holds the import directions of the project, and shows that the check sees what it should."""

from pathlib import Path

import pytest
from architecture import cpp_violations, python_violations


def test_architecture_python_imports_point_downward(repo_root: Path):
    violations = python_violations(repo_root)
    assert not violations, "\n" + "\n".join(violations)


def test_architecture_cpp_includes_point_downward(repo_root: Path):
    violations = cpp_violations(repo_root)
    assert not violations, "\n" + "\n".join(violations)


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "source", "line", "rule"),
    [
        ("ops/gemm.py", "import numpy\nfrom pymodel.nn import Linear", 2, "nn lies above ops"),
        ("ops/gemm.py", "from ..nn.linear import Linear", 1, "nn lies above ops"),
        ("ops/gemm.py", "from .. import nn", 1, "nn lies above ops"),
        ("ops/gemm.py", "from pymodel import Tensor", 1, "pymodel lies above ops"),
        ("ops/gemm.py", "def f():\n    import pymodel.train", 2, "train lies above ops"),
        ("ops/gemm.py", "import importlib\nimportlib.import_module('pymodel.nn')", 2, "nn lies above ops"),
        ("optim/adamw.py", "from pymodel.nn import Module", 1, "nn lies beside optim"),
        ("train/trainer.py", "import pymodel.generate", 1, "generate lies beside train"),
        ("models/gpt2.py", "from pymodel.generate import generate", 1, "generate lies above models"),
        ("models/gpt2.py", "from pymodel.text import Tokenizer", 1, "text is for"),
        ("text/bpe.py", "from pymodel.tensor import Tensor", 1, "text knows nothing of kernels"),
        ("data/files.py", "from pymodel import _core", 1, "data knows nothing of kernels"),
        ("errors.py", "from pymodel import device", 1, "device lies above errors"),
        ("train/trainer.py", "from pymodel.cli import main", 1, "cli lies above train"),
        ("__init__.py", "from pymodel.cli import main", 1, "cli lies above pymodel"),
        ("nn/linear.py", "import torch.nn as tnn", 1, "torch is no run-time dependency"),
        ("cli/bench.py", "def f():\n    from transformers import GPT2Config", 2, "transformers is no"),
        ("helpers.py", "from pymodel import errors", 1, "helpers has no layer yet"),
        ("nn/__init__.py", '"""Doc."""\n\ndef f():\n    pass', 3, "__init__.py only re-exports"),
        ("nn/__init__.py", "from .linear import Linear\nLayer = Linear", 2, "__init__.py only re-exports"),
    ],
)
def test_architecture_python_violation_is_named(tmp_path: Path, name, source, line, rule):
    root = write_tree(tmp_path, {f"pymodel/{name}": source})
    (violation,) = python_violations(root)
    assert violation.startswith(f"pymodel/{name}:{line}: ")
    assert rule in violation


def test_architecture_python_allows_what_the_design_draws(tmp_path: Path):
    files = {
        "__init__.py": '"""Doc."""\nfrom pymodel import nn, ops\n__all__ = ["nn", "ops"]',
        "__main__.py": "from pymodel.cli import main",
        "cli/__init__.py": "from pymodel.cli.main import main",
        "cli/main.py": "import pymodel\nfrom pymodel import _core\nfrom pymodel.train import Trainer",
        "train/trainer.py": "from pymodel.data import files\nfrom ..metrics import perplexity",
        "models/gpt2.py": "def generate():\n    from pymodel.generate import run",
        "nn/linear.py": "from pymodel import ops\nfrom pymodel.autograd import no_grad",
        "optim/adamw.py": "from pymodel.ops import adamw\nfrom pymodel.tensor import Tensor",
        "tensor.py": "from pymodel import _core, autograd\nfrom pymodel.device import Device",
        "autograd.py": "from pymodel.tensor import Tensor",
        "data/tokens.py": "from pymodel.text import Tokenizer\nfrom pymodel.errors import DataError",
    }
    root = write_tree(tmp_path, {f"pymodel/{name}": text for name, text in files.items()})
    assert python_violations(root) == []


@pytest.mark.parametrize(
    ("name", "source", "line", "rule"),
    [
        ("core/dtype.h", '#include "cpu/simd.h"', 1, "core may not know cpu"),
        ("core/dtype.h", '/* two\nlines */\n#include "../cpu/simd.h"', 3, "core may not know cpu"),
        ("cpu/simd.h", '#include "ops/gemm/gemm.h"', 1, "cpu may not know ops"),
        ("cpu/simd.h", "# include <cuda/launch.h>", 1, "cpu may not know cuda"),
        ("ops/gemm/gemm_cpu.cpp", '#include "bindings/gemm.h"', 1, "ops may not know bindings"),
        ("ops/gemm/gemm_cpu.cpp", "\n#include <pybind11/numpy.h>", 2, "only pybind11 code"),
        ("ops/gemm/gemm_sm90.cu", 'asm volatile("nop;");', 1, "inline assembly belongs in"),
        ("utils/misc.h", "int x;", 1, "csrc/utils has no layer yet"),
    ],
)
def test_architecture_cpp_violation_is_named(tmp_path: Path, name, source, line, rule):
    root = write_tree(tmp_path, {"csrc/cpu/simd.h": "", f"csrc/{name}": source})
    (violation,) = cpp_violations(root)
    assert violation.startswith(f"csrc/{name}:{line}: ")
    assert rule in violation


def test_architecture_cpp_allows_what_the_design_draws(tmp_path: Path):
    files = {
        "bindings/gemm.cpp": '#include <pybind11/pybind11.h>\n#include "ops/gemm/gemm.h"',
        "ops/gemm/gemm.h": '#include <cstddef>\n#include "core/view.h"',
        "ops/linear/linear_cpu.cpp": '#include "ops/gemm/gemm.h"  // not asm volatile\n#include "cpu/simd.h"',
        "cpu/simd.h": '#include "core/view.h"\nconst char* s = "asm // not a comment";',
        "cuda/ptx.cuh": 'asm volatile("nop;");',
        "cpu/tile_unit.h": 'asm volatile("tilerelease");',
        "core/view.h": '// #include "ops/gemm/gemm.h"',
    }
    root = write_tree(tmp_path, {f"csrc/{name}": text for name, text in files.items()})
    assert cpp_violations(root) == []
