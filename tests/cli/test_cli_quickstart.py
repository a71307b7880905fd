"""`pymodel quickstart`, cut short."""

import re
from pathlib import Path

import pytest
from command_line import run


@pytest.mark.slow
def test_quickstart_tells_its_story(tmp_path: Path) -> None:
    out = tmp_path / "first"
    shown = run("quickstart", "--out", out, "--max-steps", 2).stdout
    assert shown.index("before training") < shown.index("after training") < shown.index("gzip -9")
    model, gzip = (float(bits) for bits in re.findall(r"(?:this model|gzip -9) +(\d+\.\d+)", shown))
    assert 1.5 < gzip < 3.0 < model  # two steps do not make a compressor
    assert f"{model / gzip - 1:.0%} more than gzip" in shown
    for name in ("generate --model", "pretrain --data", "info"):
        assert f"\n  pymodel {name}" in shown
    left = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "loss.png"} <= left
    assert not list(out.glob("checkpoint-*"))
