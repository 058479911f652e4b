"""The main job, in small: every network trained, every file written, loaded and compared."""

from __future__ import annotations

import json

import pytest
import torch

import campfire_fx
from campfire_fx.cli.training import _useful_threads
from campfire_fx.train.checkpoint import read, restore
from campfire_fx.train.data import ImageData, Split, open_data
from campfire_fx.train.loop import accuracy
from campfire_fx.train.recipe import Recipe


@pytest.mark.slow
def test_train_then_shrink_then_export(run, tmp_path) -> None:
    result = run("train", "--epochs", 2, "--batch", 128, "--weight-decay", 0.2, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    for text in ("dense", "sparse", "slim from scratch", "accuracy", "MACs", "slim.onnx", "449 of 449"):
        assert text in result.stdout

    folder = tmp_path / "runs" / "digits"
    outcome = json.loads((folder / "results.json").read_text())
    rows = {row["name"]: row for row in outcome["rows"]}
    assert list(rows) == ["dense", "sparse", "slim", "slim from scratch"]
    assert rows["slim"]["accuracy"] == rows["sparse"]["accuracy"]
    assert rows["slim"]["parameters"] == rows["slim from scratch"]["parameters"] < rows["dense"]["parameters"]
    assert rows["slim"]["macs"] < rows["dense"]["macs"] == rows["sparse"]["macs"]
    assert rows["slim"]["bytes"] < rows["dense"]["bytes"]
    assert outcome["sparsity"] == pytest.approx(0.7, abs=0.005)
    assert outcome["difference"] < 1e-5
    assert all(file["difference"] < 1e-5 and file["same"] == file["images"] for file in outcome["reloaded"])

    data = open_data("digits")
    sparse = restore(read(folder / "sparse.ckpt"))
    assert accuracy(sparse, data.test, data) == rows["sparse"]["accuracy"]

    shrunk = run("shrink", folder / "sparse.ckpt", "--output", "again.safetensors", "--json")
    assert shrunk.exit_code == 0, shrunk.stderr
    facts = json.loads(shrunk.stdout)
    assert facts["parameters"] == {"before": rows["dense"]["parameters"], "after": rows["slim"]["parameters"]}

    exported = run("export", "again.safetensors", "again.pt2", "--example", "1x1x16x16")
    assert exported.exit_code == 0, exported.stderr
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        expected, found = sparse(x), campfire_fx.load(tmp_path / "again.pt2")(x)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_json_is_all_that_is_printed(run) -> None:
    result = run("train", "--epochs", 1, "--batch", 512, "--json", "--output", "here", "--model", "resnet8")
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["rows"]) == 4


@pytest.mark.parametrize(("side", "load", "threads"), [(16, 0.0, 1), (64, 0.0, 4), (64, 1.2, 3), (64, 9.0, 1)])
def test_threads_leave_busy_cores_alone(monkeypatch: pytest.MonkeyPatch, side: int, load: float, threads: int) -> None:
    split = Split(torch.zeros(1, 1, side, side, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    data = ImageData("blank", ("a",), split, split, split, False, (0.5,), (0.3,))
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert _useful_threads(data, Recipe(epochs=1, batch=32)) == threads
