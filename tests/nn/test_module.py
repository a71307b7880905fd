"""How modules find, hand out, load and convert their tensors."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import pymodel as pm
from pymodel import nn, optim
from pymodel.errors import CheckpointError, DeviceError


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width, bias=False)
        self.register_buffer("scale", pm.ones((width,)))
        self.register_buffer("cache", pm.zeros((2,)), persistent=False)
        self.register_buffer("later", None)
        self.drop = nn.Dropout(0.5)


class Tied(nn.Module):
    """An embedding whose table is also the output layer's weight."""

    def __init__(self, width: int = 4, blocks: int = 2) -> None:
        self.wte = nn.Embedding(7, width)
        self.h = nn.ModuleList([Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 7, bias=False)
        self.head.weight = self.wte.weight


NAMES = [
    "wte.weight",
    "h.0.norm.weight",
    "h.0.norm.bias",
    "h.0.linear.weight",
    "h.1.norm.weight",
    "h.1.norm.bias",
    "h.1.linear.weight",
]


def test_module_names_parameters_and_shared_ones_once():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [name for name, _ in model.named_parameters("m", remove_duplicate=False)] == [
        f"m.{name}" for name in (*NAMES, "head.weight")
    ]
    assert model.num_parameters() == 7 * 4 + 2 * (4 + 4 + 16)
    assert all(p.requires_grad for p in model.parameters())


def test_module_parameters_follow_every_change_of_structure():
    model = Tied()

    def found() -> set[int]:
        listed = {id(p) for p in model.parameters()}
        assert listed == {id(p) for _, p in model.named_parameters()}
        return listed

    before = found()
    model.h.append(Block(4))
    assert len(found()) == len(before) + 3
    model.h[0].linear = nn.Linear(4, 4)
    assert id(model.h[0].linear.bias) in found()
    model.head.weight = nn.Parameter(pm.zeros((7, 4)))
    assert id(model.head.weight) in found()
    del model.h[0].norm
    del model.wte.weight
    assert len(found()) == len(before) + 3 + 1 + 1 - 2 - 1
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.h.append(Block(4))
        twins = {id(p) for p in twin.parameters()}
        assert twins == {id(p) for _, p in twin.named_parameters()}
        assert not twins & found()


def test_module_names_modules_and_buffers():
    model = Tied(blocks=1)
    expected = ["", "wte", "h", "h.0", "h.0.norm", "h.0.linear", "h.0.drop", "head"]
    assert [name for name, _ in model.named_modules()] == expected
    assert list(model.modules())[-1] is model.head
    assert [name for name, _ in model.named_buffers()] == ["h.0.scale", "h.0.cache"]
    assert [name for name, _ in model.named_children()] == ["wte", "h", "head"]
    model.copy_of_head = model.head
    assert [name for name, _ in model.named_modules()] == expected


def test_module_state_dict_has_every_name_and_shares_memory():
    model = Tied()
    state = model.state_dict()
    scales = {"h.0.scale", "h.1.scale"}
    assert set(state) == {*NAMES, "head.weight", *scales}
    assert state["head.weight"].data_ptr() == model.wte.weight.data_ptr()
    assert state["wte.weight"].data_ptr() == model.wte.weight.data_ptr()
    assert not state["wte.weight"].requires_grad


def test_module_load_state_dict_round_trip():
    pm.manual_seed(1)
    source = Tied()
    pm.manual_seed(2)
    target = Tied()
    target.load_state_dict({name: value.numpy() for name, value in source.state_dict().items()})
    for name, value in target.state_dict().items():
        assert np.array_equal(value.numpy(), source.state_dict()[name].numpy())
    assert target.head.weight is target.wte.weight


def test_module_load_state_dict_takes_one_name_of_a_shared_parameter():
    model = Tied()
    state: dict[str, Any] = {k: v for k, v in model.state_dict().items() if k != "wte.weight"}
    state["head.weight"] = np.full((7, 4), 2.5, np.float32)
    assert model.load_state_dict(state) == ([], [])
    assert (model.wte.weight.numpy() == 2.5).all()


def test_module_load_state_dict_names_everything_at_once_and_changes_nothing():
    model = Tied()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    state = {name: np.zeros(value.shape) for name, value in model.state_dict().items()}
    del state["h.0.norm.bias"]
    state["h.9.extra"] = np.zeros(1)
    state["h.1.linear.weight"] = np.zeros((4, 5))
    message = (
        r"Tied.load_state_dict: missing: h\.0\.norm\.bias; unexpected: h\.9\.extra; "
        r"of another shape: h\.1\.linear\.weight \(4, 5\), expected \(4, 4\)"
    )
    with pytest.raises(CheckpointError, match=message):
        model.load_state_dict(state)
    with pytest.raises(ValueError, match="of another shape"):
        model.load_state_dict(state, strict=False)
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), before[name])
    del state["h.1.linear.weight"]
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["h.0.norm.bias", "h.1.linear.weight"]
    assert result.unexpected_keys == ["h.9.extra"]
    assert not model.wte.weight.numpy().any()


def test_module_load_state_dict_converts_dtypes():
    model = nn.Linear(3, 2, dtype="bfloat16")
    model.load_state_dict({"weight": np.full((2, 3), 1.001), "bias": pm.ones((2,))})
    assert model.weight.dtype == "bfloat16"
    assert model.weight.numpy().astype(np.float32).tolist() == [[1.0] * 3] * 2


def test_module_to_keeps_parameters_and_their_optimizer():
    model = Tied()
    optimizer = optim.AdamW(model.parameters(), lr=0.5)
    identities = [id(p) for p in model.parameters()]
    model.wte.weight.grad = pm.ones((7, 4))
    assert model.to("bfloat16") is model
    assert [id(p) for p in model.parameters()] == identities
    assert {p.dtype for p in model.parameters()} == {"bfloat16"}
    assert {b.dtype for b in model.buffers()} == {"bfloat16"}
    assert model.wte.weight.grad.dtype == "bfloat16"
    before = model.wte.weight.numpy().copy()
    optimizer.step()
    assert (model.wte.weight.numpy() != before).all()
    assert model.to("cpu").to(dtype="float32", device="cpu").head.weight.dtype == "float32"


def test_module_to_leaves_integer_buffers_and_names_wrong_targets():
    model = Tied(blocks=1)
    model.register_buffer("positions", pm.arange(3))
    model.to("float16")
    assert dict(model.named_buffers())["positions"].dtype == "int64"
    with pytest.raises(TypeError, match="dtype must be float32, float16 or bfloat16, got int64"):
        model.to("int64")
    with pytest.raises(TypeError, match="dtype must be float32, float16 or bfloat16, got float8"):
        model.to(dtype="float8")
    with pytest.raises(DeviceError):
        model.to("tpu")


def test_module_train_eval_and_freezing():
    model = Tied()
    assert model.h[0].drop.training
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert model.train().h[1].drop.training
    model.h[0].requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == model.num_parameters() - 24
    assert not model.h[0].norm.weight.requires_grad


def test_module_zero_grad():
    model = Tied()
    model.wte.weight.grad = pm.ones((7, 4))
    kept = model.wte.weight.grad
    model.zero_grad(set_to_none=False)
    assert model.wte.weight.grad is kept
    assert not kept.numpy().any()
    model.zero_grad()
    assert model.wte.weight.grad is None


def test_module_apply_goes_innermost_first():
    visited: list[nn.Module] = []
    model = Tied(blocks=1)
    assert model.apply(visited.append) is model
    assert visited.index(model.h[0].norm) < visited.index(model.h[0]) < visited.index(model)


def test_module_refuses_to_lose_a_parameter():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear.weight is a parameter and cannot become a plain tensor"):
        layer.weight = pm.ones((2, 2))  # type: ignore[assignment]
    layer.weight = nn.Parameter(pm.ones((2, 2)))
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with pytest.raises(TypeError, match="only floating-point tensors have gradients, got int64"):
        nn.Parameter(pm.arange(3))
    with pytest.raises(NotImplementedError, match="Tied has no forward method"):
        Tied()(1)


def test_module_repr_is_a_tree():
    block = """Block(
      (norm): LayerNorm(4, eps=1e-05)
      (linear): Linear(4, 4, bias=False)
      (drop): Dropout(p=0.5)
    )"""
    assert (
        repr(Tied())
        == f"""Tied(
  (wte): Embedding(7, 4)
  (h): ModuleList(
    (0-1): 2 x {block}
  )
  (head): Linear(4, 7, bias=False)
)"""
    )


def test_module_list_is_a_list():
    layers = nn.ModuleList(nn.Dropout(p) for p in (0.1, 0.2))
    layers.append(nn.Dropout(0.3))
    layers[-1] = nn.Dropout(0.4)
    assert [layer.p for layer in layers] == [0.1, 0.2, 0.4]
    assert [layer.p for layer in layers[1:]] == [0.2, 0.4]
    assert isinstance(layers[:1], nn.ModuleList)
    assert len(layers) == 3
    with pytest.raises(IndexError, match="index 3 is out of range for a ModuleList of 3 modules"):
        layers[3]
    with pytest.raises(TypeError, match="ModuleList holds modules, got str at 3"):
        layers.append("layer")  # type: ignore[arg-type]
