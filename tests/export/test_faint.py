"""Faint outputs, as of a detector that sees nothing: onnxruntime rounds them coarsely, and files are still proven.

Its sigmoid is exact to the rounding of 1: of an output of 1e-5 that is more than 1e-5 of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime")

import numpy as np
import onnx
from onnx import numpy_helper
from typer.testing import CliRunner

import campfire_fx
from campfire_fx.app.cli import app
from campfire_fx.base.errors import ExportError
from campfire_fx.export.onnx_agreement import compare_files
from tests.capture.from_onnx.files import Net, in_onnxruntime

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def faint() -> nn.Module:
    net = Net().eval()
    with torch.no_grad():
        net.fc.bias.sub_(12)
    return nn.Sequential(net, nn.Sigmoid())


def source(path: Path) -> Path:
    campfire_fx.export(faint(), path, X)
    return path


def spoilt(path: Path, to: Path) -> Path:
    """A copy with the classifier's weights off by a thousandth."""
    model = onnx.load(path)
    (tensor,) = [one for one in model.graph.initializer if sorted(one.dims) == [5, 8]]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))
    del model.metadata_props[:]  # its checksum
    onnx.save(model, to)
    return to


def test_it_is_more_than_the_tolerance_and_rounding_alone(tmp_path: Path) -> None:
    record = campfire_fx.export(faint(), tmp_path / "net.onnx", X)
    expected = faint()(X)
    gap = (in_onnxruntime(tmp_path / "net.onnx", X)[0] - expected).abs().max()
    assert expected.max() < 1e-4 and 1e-5 * expected.max() < gap < 2e-7
    assert record.difference > 1e-5  # as it was measured


def test_a_fault_is_still_found(tmp_path: Path) -> None:
    first = source(tmp_path / "net.onnx")
    second = spoilt(first, tmp_path / "spoilt.onnx")
    assert (in_onnxruntime(first, X)[0] - in_onnxruntime(second, X)[0]).abs().max() < 4e-7  # as rounding of 1
    with pytest.raises(ExportError, match="No entry of an output exceeds .* on the example, so rounding counts"):
        compare_files(first, second, (X,))


def test_a_file_is_shrunk_and_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source(tmp_path / "net.onnx")
    for command in ("shrink net.onnx --example 2x3x12x12 --proof proof.json", "verify proof.json"):
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.stderr
