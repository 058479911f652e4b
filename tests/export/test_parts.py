"""A model that can be captured in parts only: the parts are written, and put into the model that its code builds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from campfire_fx import shrink
from campfire_fx.base.errors import ExportError
from campfire_fx.export import export, load
from tests.assertions import Snapshot, assert_untouched
from tests.export.nets import IMAGE
from tests.random_zeros import randomise

OWN_CODE = """
import torch
from torch import nn

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
        self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        features = self.body(x).flatten(2).transpose(1, 2)
        found = features[features.mean(-1) > 0]
        return {"scores": self.head(found)} if len(found) > 3 else {}
"""

SCRIPT = """
import sys, torch
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "campfire_fx":
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import own_code, it
model = it.load(own_code.Detector())
x, expected = torch.load(sys.argv[1] + "/run", weights_only=True)
found = model(x)["scores"]
assert len(expected) > 3 and found.shape == expected.shape, (found.shape, expected.shape)
assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
"""

X = torch.randn(IMAGE)


@pytest.fixture
def own_code(tmp_path: Path) -> ModuleType:
    file = tmp_path / "own_code.py"
    file.write_text(OWN_CODE)
    spec = importlib.util.spec_from_file_location("own_code", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_parts_of_a_slim_model_go_into_the_model_of_its_own_code(
    tmp_path: Path, own_code: ModuleType, suffix: str
) -> None:
    model = randomise(own_code.Detector()).eval()
    with torch.no_grad():
        model.body[0].weight[:2] = 0
        model.body[1].bias[:2] = -5
    slim = shrink(model, X)
    snapshot = Snapshot.of(slim)
    record = export(slim, tmp_path / f"it{suffix}", X)
    assert_untouched(slim, snapshot)
    assert record.difference == 0
    code = (tmp_path / "it.py").read_text()
    assert 'model.set_submodule("body", ' in code and "nn.Conv2d(3, 4, kernel_size=3)" in code
    torch.save((X, slim(X)["scores"].detach()), tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_loading_parts_takes_the_model(tmp_path: Path, own_code: ModuleType) -> None:
    model = own_code.Detector().eval()
    export(model, tmp_path / "it.pt", X)
    with pytest.raises(ExportError, match=r"it holds parts of a model; .* pass it as load\(path, model=\.\.\.\)"):
        load(tmp_path / "it.pt")
    found = load(tmp_path / "it.pt", model=own_code.Detector())
    assert torch.equal(found(X)["scores"], model(X)["scores"])


def test_a_detector_of_torchvision(tmp_path: Path) -> None:
    detection = pytest.importorskip("torchvision.models.detection")
    build = detection.ssdlite320_mobilenet_v3_large
    model = build(weights=None, weights_backbone=None).eval()
    images = [torch.rand(3, 320, 320)]
    export(model, tmp_path / "it.safetensors", (images,))
    found = load(tmp_path / "it.safetensors", model=build(weights=None, weights_backbone=None))
    with torch.no_grad():
        (expected,), (got,) = model(images), found(images)
    assert len(expected["boxes"]) > 0
    assert all(torch.equal(expected[key], got[key]) for key in ("boxes", "scores", "labels"))
