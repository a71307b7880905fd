"""What every test shares. The environment is set here, before pymodel or torch is imported."""

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side take one core each; waiting threads must not spin on a core of another.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        action="append",
        help="where the tests of the ops run: cpu, simt (the emulated CUDA kernels) or cuda; repeatable",
    )


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout that holds these tests."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data(repo_root: Path) -> Path:
    """The folder of real text laid beside the checkout; without it the tests on it are skipped."""
    folder = repo_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared/data folder beside the checkout")
    return folder
