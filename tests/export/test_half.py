"""`half=True` writes float16 and says how far that moves the output; `opset` chooses ONNX's operators."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export import export, load
from tests.export.nets import build

SMALL = torch.randn(2, 3, 8, 8)


def small(scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    with torch.no_grad():
        net[4].weight.mul_(scale)
    return net


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "safetensors"])
def test_half_precision_is_compared_with_the_model_as_it_was(tmp_path: Path, suffix: str) -> None:
    net = small()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    whole, half = (export(net, tmp_path / f"{half}.{suffix}", SMALL, half=half) for half in (False, True))
    assert half.half and not whole.half and half.bytes < whole.bytes
    assert whole.difference < 1e-6 and 1e-5 < half.difference < 1e-2, "float16 has 11 bits"
    found = load(half.path)(SMALL.half())
    assert found.dtype == torch.float16
    with torch.no_grad():
        expected = net(SMALL)
    assert 1e-5 < (found.float() - expected).abs().max() / expected.abs().max() < 1e-2
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items()), "the model stays as it is"


def test_blocks_in_half_precision(tmp_path: Path) -> None:
    model, args = build("residual")
    assert export(model, tmp_path / "it.safetensors", args, half=True).difference < 1e-2
    assert "dtype=torch.float16" in (tmp_path / "it.py").read_text()


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="half=True: in float16 the output differs from the model's by .*leave half"):
        export(small(1e7), tmp_path / "it.pt", SMALL, half=True)
    assert list(tmp_path.iterdir()) == []


def test_code_that_asks_for_float32_is_refused(tmp_path: Path) -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.float())

    with pytest.raises(ExportError, match="half=True: the model does not run in float16: RuntimeError"):
        export(Asks().eval(), tmp_path / "it.pt2", SMALL, half=True)
    with pytest.raises(ExportError, match="half=True: MNN computes in float32"):
        export(small(), tmp_path / "it.mnn", SMALL, half=True)


def test_opset(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    record = export(small(), tmp_path / "it.onnx", SMALL, opset=20, input_names=["image"])
    assert record.free == ("image[0]",)
    found = {one.domain: one.version for one in onnx.load(tmp_path / "it.onnx").opset_import}
    assert found[""] == 20


@pytest.mark.parametrize(("name", "opset", "told"), [
    ("it.onnx", 7, r"opset=7: torch writes ONNX's operators from version 18 on"),
    ("it.onnx", True, "opset=True: torch writes"),
    ("it.onnx", 99, "opset=99: this model cannot be written in it"),
    ("it.pt2", 18, r"opset=18: a \.pt2 file has none"),
])  # fmt: skip
def test_opsets_that_there_are_not(tmp_path: Path, name: str, opset: int, told: str) -> None:
    with pytest.raises(ExportError, match=told):
        export(small(), tmp_path / name, SMALL, opset=opset)
    assert list(tmp_path.iterdir()) == []
