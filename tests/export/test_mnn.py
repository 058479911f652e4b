"""Files for MNN: the model's answers at free sizes, zeros that are skipped where that pays, and one sentence else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export import MnnModel, export, load
from campfire_fx.export.mnn_sparsity import Skipping, settle
from tests.assertions import difference

pytest.importorskip("MNN")
mnn_file = importlib.import_module("campfire_fx.export.mnn_file")


class Two(nn.Module):
    """Two inputs, one of whole numbers; outputs of two types in a structure."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shift = nn.Conv2d(3, 8, 3, padding=1), nn.Embedding(10, 8)
        self.grouped, self.up = nn.Conv2d(8, 6, 3, groups=2), nn.ConvTranspose2d(6, 4, 2, 2)

    def forward(self, x: Tensor, kind: Tensor) -> dict[str, Any]:
        y = torch.relu(self.conv(x)) + self.shift(kind)[:, :, None, None]
        z = self.up(self.grouped(y))
        return {"image": z, "rest": (z.flatten(1).argmax(1), y.mean((2, 3)))}


def test_a_file_answers_as_the_model_does_at_every_size_and_types_and_structure_stay(tmp_path: Path) -> None:
    model = Two().eval()
    record = export(model, tmp_path / "it.mnn", (torch.randn(2, 3, 9, 12), torch.tensor([1, 3])))
    assert record.free == ("x[0]", "x[2]", "x[3]", "kind[0]") and record.difference < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["it.mnn"]
    found = load(tmp_path / "it.mnn")
    for shape, kinds in (((1, 3, 9, 12), [9]), ((3, 3, 20, 7), [0, 4, 4])):
        given = torch.randn(shape), torch.tensor(kinds)
        with torch.no_grad():
            ours, theirs = found(given[0], kind=given[1]), model(*given)
        assert ours.keys() == theirs.keys() and ours["rest"][0].equal(theirs["rest"][0])
        assert difference([theirs["image"], theirs["rest"][1]], [ours["image"], ours["rest"][1]]) < 1e-5
    with pytest.raises(RuntimeError, match="MNN cannot compute this file for inputs of 2x5x9x12, 2"):
        found(torch.randn(2, 5, 9, 12), torch.tensor([1, 3]))
    spoilt = bytearray((tmp_path / "it.mnn").read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    (tmp_path / "it.mnn").write_bytes(spoilt)
    with pytest.raises(ExportError, match=r"cannot load .*it\.mnn: its checksum is wrong"):
        load(tmp_path / "it.mnn")


def sparse_net() -> nn.Sequential:
    """A 1x1, a 3x3 and a strided 3x3 convolution and a linear layer, with zeros in blocks of four filters."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(16, 22, 1), nn.ReLU(), nn.Conv2d(22, 24, 3, padding=1), nn.ReLU(),
        nn.Conv2d(24, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 20),
    )  # fmt: skip
    for layer, share in ((net[0], 0.6), (net[2], 0.6), (net[4], 0.6), (net[7], 0.6)):
        weight = layer.weight.data
        blocks = torch.rand(-(-len(weight) // 4), *weight.shape[1:]) > share
        weight.mul_(blocks.repeat_interleave(4, 0)[: len(weight)])
    return net.eval()


def test_zeros_are_skipped_where_that_pays_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the four layers the 3x3 of stride 1 is faster dense: 60 % is too little against Winograd's algorithm."""
    net, x, tried = sparse_net(), torch.randn(2, 16, 8, 8), []

    def timed(fast: int) -> Any:
        return lambda runs, *_, **__: tried.append(len(runs)) or [[float(i != fast)] for i in range(len(runs))]

    sizes = []
    for fast in (0, 1):  # first the form that skips nothing is the fastest, then that of blocks of four
        monkeypatch.setattr(mnn_file, "in_turns", timed(fast))
        record = export(net, tmp_path / "it.mnn", x)
        assert record.difference < 1e-5
        sizes.append(record.bytes)
        content = bytearray((tmp_path / "it.mnn").read_bytes())
        assert settle(content) == (Skipping(3, 1) if fast else Skipping(0, 0))
        assert difference([net(x).detach()], [MnnModel(tmp_path / "it.mnn", fast=True, threads=1)(x)]) < 1e-4
    assert tried == [2, 2]  # no layer has 65 % of single zeros
    assert sizes[1] < sizes[0]


def test_other_numbers_than_float32_are_refused(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 3).double().eval()
    with pytest.raises(
        ExportError, match=r"an \.mnn file computes in float32, and this model in float64\. Export model"
    ):
        export(model, tmp_path / "it.mnn", torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert not list(tmp_path.iterdir())


def test_an_operation_that_mnn_lacks_is_named(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Hardmax", ["x"], ["y"])], "g", [value], [out])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "it.onnx")
    with pytest.raises(ExportError, match=r"^MNN has no operation for Hardmax of ONNX\. Export to \.onnx or \.pt2"):
        mnn_file.convert(tmp_path / "it.onnx", tmp_path / "it.mnn", "note")


def test_what_is_no_file_of_mnn_and_a_missing_package_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "it.mnn").write_text("text")
    with pytest.raises(ExportError, match=r"cannot load .*it\.mnn: MNN does not read it as a model\. Export the file"):
        load(tmp_path / "it.mnn")
    assert not capfd.readouterr().out, "MNN's own words would stand among results"
    monkeypatch.setitem(sys.modules, "MNN", None)
    for call in (lambda: load(tmp_path / "it.mnn"), lambda: export(nn.Conv2d(3, 4, 3), tmp_path / "a.mnn")):
        with pytest.raises(ExportError, match=r"the package MNN is needed for \.mnn files .*mnn>="):
            call()
