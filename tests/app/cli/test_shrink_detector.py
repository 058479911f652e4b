"""`shrink` on a .pt file of ultralytics: the detector goes on working, with the slim network in its place."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from campfire_fx.app.libraries.ultralytics import open_detector
from campfire_fx.base.errors import TrainError
from tests.random_zeros import randomise

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
opened, saved = Image.open, torch.save
pytest.importorskip("ultralytics")
Image.open, torch.save = opened, saved  # it puts its own in their place, which other tests would get to see

DESCRIPTION = """
nc: 2
scales: {n: [0.33, 0.125, 1024]}
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, C2f, [128, True]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, C2f, [256, True]]
  - [-1, 1, SPPF, [256, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 2], 1, Concat, [1]]
  - [-1, 1, C2f, [128]]
  - [[8, 5], 1, Detect, [nc]]
"""
SIZE = "1x3x64x64"


@pytest.fixture
def yolo(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small network of two grids, with random statistics, saved as a training saves it."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    from ultralytics import YOLO

    torch.manual_seed(0)
    (tmp_path / "tiny.yaml").write_text(DESCRIPTION)
    model = YOLO("tiny.yaml", task="detect")
    randomise(model.model)
    model.model.names = {0: "square", 1: "circle"}
    model.save("tiny.pt")
    return YOLO


def boxes(model: Any) -> torch.Tensor:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return model.predict(image, imgsz=64, conf=1e-4, verbose=False)[0].boxes.data


def test_dead_channels_go_and_the_boxes_stay(run: Any, yolo: Any) -> None:
    given = yolo("tiny.pt")
    with torch.no_grad():
        given.model.model[2].m[0].cv1.conv.weight[:4] = 0
        given.model.model[3].conv.weight[8:] = 0
    given.save("pruned.pt")
    result = run("shrink", "pruned.pt", "--example", SIZE, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["files"] == ["pruned-slim.pt"] and facts["moved"] is None
    assert facts["parameters"]["after"] < 0.97 * facts["parameters"]["before"]
    slim = yolo("pruned-slim.pt")
    assert slim.names == {0: "square", 1: "circle"} and slim.task == "detect"
    assert sum(p.numel() for p in slim.model.parameters()) == facts["parameters"]["after"]
    torch.testing.assert_close(boxes(slim), boxes(yolo("pruned.pt")), rtol=2e-2, atol=2e-2)  # saved in half precision
    assert len(boxes(slim))
    refused = run("shrink", "pruned.pt", "--example", SIZE, "--proof", "proof.json")
    assert refused.exit_code == 2 and "no proof can check" in refused.stderr


def test_smaller_by_one_command(run: Any, yolo: Any, tmp_path: Path) -> None:
    """It predicts, is exported, and trains at the widths that it has."""
    result = run("shrink", "tiny.pt", "--target", "macs=0.3", "--output", "slim.pt", "--example", SIZE, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["moved"] > 0 and facts["files"] == ["slim.pt"] and facts["repairs"]
    slim = yolo("slim.pt")
    if importlib.util.find_spec("onnxruntime"):
        exported = slim.export(format="onnx", imgsz=64, simplify=False, verbose=False)
        torch.testing.assert_close(boxes(yolo(exported, task="detect")), boxes(slim), rtol=2e-2, atol=2e-2)
    again = run("shrink", "slim.pt", "--example", SIZE)
    assert again.exit_code == 2 and "give --trust" in again.stderr and "reduce_graph_module" in again.stderr
    _train(yolo("slim.pt"), tmp_path, facts["parameters"]["after"])


def _train(slim: Any, folder: Path, parameters: int) -> None:
    pytest.importorskip("polars")
    from campfire_fx.training.callbacks.ultralytics import trainer_for

    for part, number in (("train", 0), ("train", 1), ("val", 2)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (80 * number, 0, 0)).save(folder / "images" / part / f"{number}.png")
        (folder / "labels" / part / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    data = {"path": str(folder), "train": "images/train", "val": "images/val", "names": {0: "square", 1: "circle"}}
    (folder / "data.yaml").write_text(json.dumps(data))
    (folder / "other.yaml").write_text(json.dumps(data | {"names": ["a", "b", "c"]}))
    settings = {"epochs": 1, "imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "amp": False}
    trainer, out = trainer_for(slim), str(folder / "out")
    with pytest.raises(TrainError, match="the data have 3 classes, the network 2"):
        slim.train(trainer=trainer, data="other.yaml", project=out, verbose=False, **settings)
    slim.train(trainer=trainer, data="data.yaml", project=out, verbose=False, **settings)
    assert sum(p.numel() for p in slim.model.parameters()) == parameters


def test_code_in_a_file_is_not_run(run: Any, yolo: Any, tmp_path: Path) -> None:
    content = torch.load("tiny.pt", weights_only=False)
    content["model"].odd = Odd()
    torch.save(content, "odd.pt")
    result = run("shrink", "odd.pt", "--example", SIZE)
    assert result.exit_code == 2 and "Odd" in result.stderr and "--trust" in result.stderr
    network = open_detector(Path("odd.pt"), trust=True).network
    assert isinstance(network, nn.Module) and isinstance(network.odd, Odd)


class Odd:
    """What a file may hold."""


def test_a_target_and_a_proof_exclude_each_other(run: Any) -> None:
    result = run("shrink", "tiny.pt", "--target", "macs=0.5", "--proof", "proof.json")
    assert result.exit_code == 2 and "changes the output" in result.stderr
    result = run("shrink", "tiny.pt", "--set", "score=l2")
    assert result.exit_code == 2 and "Give --target, too" in result.stderr
