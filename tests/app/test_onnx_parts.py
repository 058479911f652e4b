"""Nodes of an ONNX file that are not understood stay as they are; what is around them shrinks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("onnxruntime")

import onnx
from onnx import TensorProto, helper

from campfire_fx.app.cli import app
from tests.capture.from_onnx.files import graph_file, in_onnxruntime

NODE = helper.make_node
GENERATOR = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray[Any, Any]:
    return (GENERATOR.standard_normal(shape) / 2).astype(np.float32)


def pruned(*shape: int) -> np.ndarray[Any, Any]:
    """A weight with half its filters zero."""
    weight = random(*shape)
    weight[::2] = 0
    return weight


def info(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def recurrent(op: str, gates: int) -> tuple[list[Any], dict[str, Any]]:
    """Its sequence is the columns of the image; hidden size 5."""
    nodes = [
        NODE("ReduceMean", ["f", "rows"], ["m"], keepdims=0),
        NODE("Transpose", ["m"], ["sequence"], perm=[2, 0, 1]),
        NODE(op, ["sequence", "w", "r", "b"], ["steps", "last"], hidden_size=5, name="recurrent"),
        NODE("Squeeze", ["last", "zero"], ["h"]),
        NODE("Gemm", ["h", "u", ""], ["y"]),
    ]
    held = {"w": random(1, gates * 5, 6), "r": random(1, gates * 5, 5), "b": random(1, gates * 10)}
    return nodes, held | {"rows": np.array([2]), "zero": np.array([0]), "u": random(5, 3)}


def chosen() -> tuple[list[Any], dict[str, Any]]:
    """An If whose branches read a value and a weight from outside, one of them a name that the export uses, too."""
    then = helper.make_graph([NODE("Mul", ["f", "factor"], ["conv2d"])], "then", [], [info("conv2d", None)])
    other = helper.make_graph([NODE("Neg", ["f"], ["val_0"])], "else", [], [info("val_0", None)])
    nodes = [
        NODE("ReduceSum", ["f"], ["sum"], keepdims=0),
        NODE("Greater", ["sum", "limit"], ["is_more"]),
        NODE("If", ["is_more"], ["g"], then_branch=then, else_branch=other),
        NODE("Conv", ["g", "u"], ["y"]),
    ]
    return nodes, {"factor": random(6, 1, 1), "limit": np.float32(0), "u": random(3, 6, 1, 1)}


def looped() -> tuple[list[Any], dict[str, Any]]:
    body = helper.make_graph(
        [NODE("Mul", ["v", "half"], ["v_out"]), NODE("Identity", ["go"], ["go_out"])],
        "body",
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("v", None)],
        [info("go_out", [], TensorProto.BOOL), info("v_out", None)],
    )
    nodes = [NODE("Loop", ["times", "", "f"], ["g"], body=body), NODE("Conv", ["g", "u"], ["y"])]
    return nodes, {"times": np.int64(3), "half": np.float32(0.5), "u": random(3, 6, 1, 1)}


def several() -> tuple[list[Any], dict[str, Any]]:
    """Operators of a vendor: one that stays feeds another, and both give outputs of the file."""
    nodes = [
        NODE("QuickGelu", ["f"], ["g"], domain="com.microsoft"),
        NODE("QuickGelu", ["g"], ["first"], domain="com.microsoft"),
        NODE("Conv", ["first", "u"], ["z"]),
        NODE("QuickGelu", ["z"], ["y"], domain="com.microsoft"),
    ]
    return nodes, {"u": random(3, 6, 1, 1)}


CASES = {
    "LSTM": lambda: recurrent("LSTM", 4),
    "GRU": lambda: recurrent("GRU", 3),
    "If": chosen,
    "Loop": looped,
    "several": several,
}


def made(path: Path, case: str, batch: Any = 2) -> Path:
    """A file: two convolutions, of which the first has half its filters zero; then the nodes of a case."""
    nodes, constants = CASES[case]()
    head = [NODE("Conv", ["x", "a"], ["c"]), NODE("Relu", ["c"], ["d"]), NODE("Conv", ["d", "e"], ["f"])]
    constants |= {"a": pruned(8, 4, 3, 3), "e": random(6, 8, 1, 1)}
    graph_file(path, [*head, *nodes], constants, {"x": (batch, 4, 8, 8)}, opset=18)
    if case == "several":
        model = onnx.load(path)
        model.graph.output.insert(0, helper.make_empty_tensor_value_info("first"))
        onnx.save(model, path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_it_shrinks_around_them(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = made(tmp_path / "net.onnx", case, 2 if case in ("LSTM", "GRU") else "n")
    result = CliRunner().invoke(app, ["shrink", "net.onnx", "--proof", "proof.json"])
    assert result.exit_code == 0, result.stderr
    stayed = {node.op_type for node in onnx.load(source).graph.node} & {"LSTM", "GRU", "If", "Loop", "QuickGelu"}
    assert "Kept as they are, and no part of these numbers: " in result.stdout
    slim = onnx.load(tmp_path / "net-slim.onnx")
    assert stayed and stayed <= {node.op_type for node in slim.graph.node}
    assert [one.name for one in slim.graph.input] == ["x"]
    assert [one.name for one in slim.graph.output] == [one.name for one in onnx.load(source).graph.output]
    assert [4, 4, 3, 3] in [list(one.dims) for one in slim.graph.initializer]
    x = torch.randn(2, 4, 8, 8)
    for mine, theirs in zip(in_onnxruntime(tmp_path / "net-slim.onnx", x), in_onnxruntime(source, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_done_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "net.onnx", "several")
    graph_file(tmp_path / "all.onnx", [NODE("QuickGelu", ["x"], ["y"], domain="com.microsoft")])
    own = [NODE("Own", ["x"], ["g"], domain="com.microsoft"), NODE("Relu", ["g"], ["y"])]
    graph_file(tmp_path / "own.onnx", own)
    for arguments, words in {
        "net.onnx --output slim.pt2": "--output: 3 QuickGelu of the file are not understood and stay as they are",
        "all.onnx": "all.onnx: 1 QuickGelu of its nodes are not understood, and nothing else is left to shrink",
        "own.onnx": "own.onnx: 1 Own are not understood, so onnxruntime has to run them, which it does not",
    }.items():
        result = CliRunner().invoke(app, ["shrink", *arguments.split()])
        assert result.exit_code == 2 and words in " ".join(result.stderr.replace("│", " ").split())
