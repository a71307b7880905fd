"""Memory, streams, events and graphs of devices, on the emulator and on a GPU where there is one."""

import gc

import numpy as np
import pytest
from devices import ACCELERATORS
from reference import gradient_of

import pymodel as pm
from pymodel.errors import DeviceError

pytestmark = pytest.mark.parametrize("name", ACCELERATORS)

# -- memory -----------------------------------------------------------------------------------------


def test_cuda_memory_is_counted(name):
    gc.collect()
    before = pm.memory_stats(name)
    x = pm.empty((1000, 1000), device=name)
    during = pm.cuda.memory_stats(name)
    assert during["in_use"] - before["in_use"] == x.nbytes
    assert during["reserved"] >= during["in_use"]
    assert during["peak_in_use"] >= during["in_use"]
    assert pm.cuda.mem_get_info(name) == (during["free"], during["total"])
    assert during["free"] < during["total"]
    del x
    assert pm.memory_stats(name)["in_use"] == before["in_use"]
    pm.cuda.reset_peak_memory(name)
    assert pm.memory_stats(name)["peak_in_use"] == before["in_use"]
    pm.cuda.empty_cache(name)
    assert pm.memory_stats(name)["reserved"] <= during["reserved"]


def test_cuda_out_of_memory_names_the_request_and_what_is_free(name):
    kept = pm.tensor([1.0, 2.0], device=name)
    elements = 1 << 44
    with pytest.raises(MemoryError) as caught:
        pm.empty((elements,), device=name)
    text = str(caught.value)
    assert f"out of memory on {name}: 64.00 TiB were asked for" in text
    assert "in use by tensors" in text
    assert "free; use a smaller batch or sequence" in text
    # What was there stays, and there is room for what fits.
    assert (kept + 1.0).tolist() == [2.0, 3.0]
    assert pm.zeros((10,), device=name).tolist() == [0.0] * 10


def test_cuda_out_of_memory_in_a_backward_leaves_the_process_usable(name):
    x = pm.tensor(np.ones(4), device=name, requires_grad=True)
    wide = x.reshape(4, 1).expand(4, 1 << 42)
    with pytest.raises(MemoryError, match="were asked for"):
        (wide * 2.0).sum().backward()
    (x * 2.0).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0] * 4


# -- streams and events -----------------------------------------------------------------------------


def test_cuda_stream_block_puts_work_there_and_keeps_order(name):
    assert pm.cuda.current_stream(name).handle == 0
    stream = pm.cuda.Stream(name)
    assert stream.device == name
    x = pm.tensor(np.arange(1000.0), device=name)
    with pm.cuda.stream(stream) as entered:
        assert entered is stream
        assert pm.cuda.current_stream(name).handle == stream.handle != 0
        y = x * 2.0
        with pm.cuda.stream(pm.cuda.Stream(name)):
            y = y + x
        assert pm.cuda.current_stream(name).handle == stream.handle
    assert pm.cuda.current_stream(name).handle == 0
    np.testing.assert_array_equal((y + 1.0).numpy(), np.arange(1000.0) * 3 + 1)
    with pytest.raises(ZeroDivisionError), pm.cuda.stream(stream):
        raise ZeroDivisionError
    assert pm.cuda.current_stream(name).handle == 0


def test_cuda_stream_of_another_library_is_used_as_it_is(name):
    theirs = pm.cuda.Stream(name)
    ours = pm.cuda.Stream(name, handle=theirs.handle)
    with pm.cuda.stream(ours):
        assert pm.cuda.current_stream(name).handle == theirs.handle
        x = pm.tensor([1.0], device=name) + 1.0
    theirs.synchronize()
    assert x.item() == 2.0
    assert f"{theirs.handle:#x}" in repr(ours)


def test_cuda_stream_gone_before_its_tensors(name):
    with pm.cuda.stream(pm.cuda.Stream(name)):
        x = pm.tensor([1.0, 2.0], device=name)
    gc.collect()
    assert (x * 3.0).tolist() == [3.0, 6.0]


def test_cuda_streams_wait_for_events(name):
    first, second = pm.cuda.Stream(name), pm.cuda.Stream(name)
    start, end = pm.cuda.Event(name), pm.cuda.Event(name)
    x = pm.tensor(np.ones(100_000), device=name)
    with pm.cuda.stream(first):
        start.record()
        y = x + x
        end.record()
    with pm.cuda.stream(second):
        end.wait()
        z = y + y
    end.synchronize()
    assert start.elapsed_time(end) >= 0.0
    second.wait_stream(first)
    pm.cuda.synchronize(name)
    np.testing.assert_array_equal(z.numpy(), np.full(100_000, 4.0))


# -- graphs -----------------------------------------------------------------------------------------


def test_cuda_graph_replays_on_new_values(name):
    x = pm.tensor([1.0, 2.0], device=name)
    graph = pm.cuda.Graph(name)
    with pm.cuda.graph(graph):
        y = (x * 2.0 + 1.0) * x
    for values in ([1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]):
        x.copy_(pm.tensor(values, device=name))
        graph.replay()
        assert y.tolist() == [(2 * v + 1) * v for v in values]


def test_cuda_graph_keeps_its_memory_to_itself(name):
    x = pm.tensor(np.arange(1000.0), device=name)
    graph = pm.cuda.Graph(name)
    with pm.cuda.graph(graph):
        y = x
        for _ in range(5):  # each step's memory is free for the next but one
            y = y + 1.0
    others = [pm.tensor(np.full(1000, 7.0), device=name) for _ in range(10)]
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), np.arange(1000.0) + 5)
    assert all((other.numpy() == 7.0).all() for other in others)
    in_use = pm.memory_stats(name)["in_use"]
    graph.reset()
    with pytest.raises(DeviceError, match="the graph is empty"):
        graph.replay()
    np.testing.assert_array_equal(y.numpy(), np.arange(1000.0) + 5)
    del y
    assert pm.memory_stats(name)["in_use"] == in_use - 4000


def test_cuda_graph_of_a_training_step_follows_the_same_path(name):
    def train(steps, captured):
        with pm.device(name):
            pm.manual_seed(0)
            layer = pm.nn.LayerNorm(8)
            x = pm.randn((4, 8))

        def step():
            for p in layer.parameters():
                p.grad = None
            loss = (layer(x) * x).sum()
            loss.backward()
            with pm.no_grad():
                for p in layer.parameters():
                    p.sub_(gradient_of(p) * 0.1)
            return loss

        if not captured:
            return [step().item() for _ in range(steps)]
        graph = pm.cuda.Graph(name)
        with pm.cuda.graph(graph):
            loss = step()
        losses = []
        for _ in range(steps):
            graph.replay()
            losses.append(loss.item())
        return losses

    assert train(4, captured=True) == train(4, captured=False)


def test_cuda_graph_reads_pinned_memory_anew(name):
    source = pm.tensor([1.0, 2.0]).pin_memory()
    graph = pm.cuda.Graph(name)
    with pm.cuda.graph(graph):
        result = (source.to(name, non_blocking=True) * 2.0).to("cpu", non_blocking=True)
    for values in ([3.0, 4.0], [5.0, 6.0]):
        source.copy_(pm.tensor(values))
        graph.replay()
        pm.synchronize(name)
        assert result.tolist() == [2 * v for v in values]
    with pytest.raises(DeviceError, match="a pinned tensor with non_blocking=True"), pm.cuda.graph(graph):
        source.to(name)


def test_cuda_graph_refuses_what_it_cannot_record(name):
    x = pm.tensor([1.0], device=name)
    graph = pm.cuda.Graph(name)
    with pytest.raises(DeviceError, match="a graph is being captured"), pm.cuda.graph(graph):
        x + pm.tensor([1.0]).to(name)
    with pytest.raises(DeviceError, match="a graph is being captured"), pm.cuda.graph(graph):
        (x + x).item()
    assert (x + x).item() == 2.0, "afterwards all is as before"
    with pm.cuda.graph(graph):
        y = x + x
    graph.replay()
    assert y.item() == 2.0
