"""Invalid data that a kernel comes across: raised where it is waited for, harmless before."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import ACCELERATORS

import pymodel as pm


def captured(name, call):
    """The call in a graph, where no launch is waited for, so that only `replay` finds what is invalid."""
    graph = pm.cuda.Graph(name)
    with pm.cuda.graph(graph):
        result = call()
    return graph, result


@pytest.mark.parametrize("name", ACCELERATORS)
def test_fault_of_a_target_is_raised_by_the_next_wait(name):
    logits = pm.tensor(np.zeros((4, 3)), device=name)
    targets = pm.tensor([0, 1, 2, -100], device=name)
    graph, loss = captured(name, lambda: pm.ops.cross_entropy(logits, targets))
    graph.replay()
    good = loss.item()
    targets.copy_(pm.tensor([0, 7, 2, 9], device=name))
    graph.replay()
    message = rf"cross_entropy: a target is no class.* position 1,.*{name}.*BLOCKING"
    with pytest.raises(ValueError, match=message):
        pm.synchronize(name)
    pm.synchronize(name)  # raised once
    targets.copy_(pm.tensor([0, 1, 2, -100], device=name))
    graph.replay()
    assert loss.item() == good


@pytest.mark.parametrize("name", ACCELERATORS)
def test_fault_of_an_index_is_raised_by_reading_a_result(name):
    table = pm.tensor(np.arange(6.0).reshape(3, 2), device=name)
    indices = pm.tensor([[0, 1], [2, 0]], device=name)
    graph, picked = captured(name, lambda: pm.ops.embedding(indices, table))
    indices.copy_(pm.tensor([[0, 1], [3, -1]], device=name))
    graph.replay()
    with pytest.raises(IndexError, match=r"embedding: an index is no row of weight.* position 2"):
        picked.numpy()
    assert table.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize("name", ACCELERATORS)
def test_fault_of_a_position_is_raised_by_reading_a_result(name):
    with pm.device(name):
        x, cos, sin = pm.ones((1, 3, 2, 4)), pm.ones((5, 2)), pm.zeros((5, 2))
        positions = pm.tensor([0, 4, 2])
    graph, turned = captured(name, lambda: pm.ops.rotary(x, cos, sin, positions))
    positions.copy_(pm.tensor([0, 5, 2], device=name))
    graph.replay()
    with pytest.raises(IndexError, match=r"rotary: a position is no row of cos and sin, .* token 1"):
        turned.numpy()
    assert turned.numpy()[0, :, 0].tolist() == [[1.0] * 4, [0.0] * 4, [1.0] * 4]


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("argument", ["query_lengths", "key_lengths"])
def test_fault_of_a_length_is_raised(name, argument):
    q = pm.tensor(np.ones((3, 4, 1, 8)), device=name)
    lengths = pm.tensor([4, 0, 4], device=name)
    options: Any = {argument: lengths}
    graph, out = captured(name, lambda: pm.ops.attention(q, q, q, **options))
    graph.replay()
    assert np.isfinite(out.numpy()).all()
    lengths.copy_(pm.tensor([4, 4, 5], device=name))
    graph.replay()
    with pytest.raises(ValueError, match=f"attention: {argument} must be from 0 .* at 2"):
        pm.cuda.current_stream(name).synchronize()


@pytest.mark.parametrize("name", ACCELERATORS)
def test_faults_of_one_wait_are_raised_once(name):
    table = pm.tensor(np.ones((3, 2)), device=name)
    indices, targets = pm.tensor([5], device=name), pm.tensor([5], device=name)
    graph, _ = captured(name, lambda: pm.ops.cross_entropy(pm.ops.embedding(indices, table), targets))
    graph.replay()
    with pytest.raises(ValueError, match="cross_entropy"):
        pm.synchronize(name)
    pm.synchronize(name)


BLOCKING = """
import numpy as np, pymodel as pm
with pm.device({name!r}):
    logits, targets = pm.zeros((2, 3)), pm.tensor([1, 3])
    for call in (
        lambda: pm.ops.cross_entropy(logits, targets),
        lambda: pm.ops.embedding(targets, logits[:, :2]),
        lambda: pm.ops.attention(*[pm.zeros((2, 3, 1, 8))] * 3, key_lengths=pm.tensor([3, 4])),
    ):
        try:
            call()
        except (ValueError, IndexError) as error:
            print(error)
        else:
            raise SystemExit("not found where it happened")
    pm.synchronize()
"""


@pytest.mark.parametrize("name", ACCELERATORS)
def test_fault_is_named_as_on_the_cpu_where_each_launch_is_waited_for(name, repo_root: Path):
    def run(device: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", BLOCKING.format(name=device)],
            env={**os.environ, "PYMODEL_CUDA_BLOCKING": "1"},
            cwd=repo_root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = run(name)
    assert text == run("cpu")
    assert "targets[1] is 3" in text
    assert "indices[1] is 3" in text
    assert "key_lengths[1] must be from 0 to the sequence's extent 3, got 4" in text
