"""`shrink` on an .onnx file: a smaller one, with the same names and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

import campfire_fx
from tests.capture.from_onnx.files import exported, in_onnxruntime


def sizes(path: Path) -> int:
    return sum(int(np.prod(one.dims)) for one in onnx.load(path).graph.initializer)


def test_a_smaller_file_with_the_same_names_and_outputs(run, tmp_path: Path) -> None:
    source = exported(tmp_path / "net.onnx")
    result = run("shrink", "net.onnx", "--example", "2x3x12x12")
    assert result.exit_code == 0, result.stderr
    assert "In onnxruntime its outputs are within" in result.stdout
    slim = tmp_path / "net-slim.onnx"
    graph = onnx.load(slim).graph
    assert [one.name for one in graph.input] == ["in.1"] and [one.name for one in graph.output] == ["out:0"]
    assert sizes(slim) < 0.75 * sizes(source)
    x = torch.randn(5, 3, 16, 9)
    torch.testing.assert_close(in_onnxruntime(slim, x), in_onnxruntime(source, x), rtol=1e-5, atol=1e-6)


def test_another_format_and_a_file_that_cannot_be_read(run, tmp_path: Path) -> None:
    exported(tmp_path / "net.onnx")
    result = run("shrink", "net.onnx", "--output", "net.safetensors")
    assert result.exit_code == 0, result.stderr
    assert sum(p.numel() for p in campfire_fx.load(tmp_path / "net.safetensors").parameters()) < 1200
    (tmp_path / "bad.onnx").write_text("none")
    result = run("shrink", "bad.onnx")
    assert result.exit_code == 2 and "onnx cannot read it" in result.stderr
