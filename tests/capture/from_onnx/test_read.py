"""Files of exporters: shrunk, written under the same names, equal in onnxruntime; and what cannot be read, by name."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

pytest.importorskip("onnxruntime")

from onnx import helper

import campfire_fx
from campfire_fx.base.errors import CampfireError, CaptureError, ExportError
from campfire_fx.export.onnx_agreement import compare_files
from tests.capture.from_onnx.files import Net, exported, graph_file, in_onnxruntime, random


def test_what_was_read_is_a_model_like_others(tmp_path: Path) -> None:
    source = exported(tmp_path / "net.onnx")
    model = campfire_fx.read_onnx(source)
    x = torch.randn(3, 3, 8, 8)
    expected = in_onnxruntime(source, x)[0]
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), expected, rtol=1e-5, atol=1e-6)
    sparse = campfire_fx.sparsify(model, "filter", sparsity=0.5, era=(0, 1), example_inputs=x)
    sparse.epoch(1)
    slim = sparse.eval().shrink()
    assert sum(p.numel() for p in slim.parameters()) < 0.65 * sum(p.numel() for p in model.parameters())


def test_files_that_differ_are_told_apart(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "c"], ["y"])]
    first = graph_file(tmp_path / "a.onnx", nodes, {"c": random(4, 1, 1)})
    second = graph_file(tmp_path / "b.onnx", nodes, {"c": random(4, 1, 1)})
    x = torch.from_numpy(random(2, 4, 8, 8))
    assert compare_files(first, first, (x,)) == 0
    with pytest.raises(ExportError, match="b.onnx gives other outputs than .*a.onnx in onnxruntime"):
        compare_files(first, second, (x,))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("NonZero", ["x"], ["y"]), "operators that are not understood: NonZero"),
        (helper.make_node("Own", ["x"], ["y"], domain="mine", name="n"), "node 'n': mine.Own is no standard operator"),
        (helper.make_node("Conv", ["x", "x"], ["y"], name="n"), r"'n' \(Conv\): its weights are computed"),
        (
            helper.make_node("Slice", ["x", "last", "first", "axis", "back"], ["y"], name="n"),
            r"'n' \(Slice\): it goes backwards",
        ),
    ],
)
def test_what_is_not_understood_is_named(node: onnx.NodeProto, message: str, tmp_path: Path) -> None:
    constants = {"last": [3], "first": [0], "axis": [1], "back": [-1]}
    arrays = {name: np.asarray(value, np.int64) for name, value in constants.items()}
    path = tmp_path / "model.onnx"
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 4, 8, 8))],
        [helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    with pytest.raises(CampfireError, match=message):
        campfire_fx.read_onnx(path)(torch.randn(1, 4, 8, 8))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("no model")
    with pytest.raises(CaptureError, match="model.onnx: onnx cannot read it"):
        campfire_fx.read_onnx(path)
    with pytest.raises(CaptureError, match=r"read_onnx: a NoneType is no path\. Give the name of a file"):
        campfire_fx.read_onnx(None)
    with pytest.raises(CaptureError, match="there is no such file"):
        campfire_fx.read_onnx(tmp_path / "none.onnx")


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 12, 12)
    with pytest.raises(ExportError, match="the model has 1 inputs. Give as many names"):
        campfire_fx.export(Net().eval(), tmp_path / "net.onnx", x, input_names=["a", "b"])
    with pytest.raises(ExportError, match="a .pt2 file has none"):
        campfire_fx.export(Net().eval(), tmp_path / "net.pt2", x, output_names=["a"])
