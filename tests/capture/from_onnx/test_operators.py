"""Every operator gives what onnxruntime gives, alone and inside a captured model, at two batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper

from campfire_fx.capture import trace
from campfire_fx.capture.from_onnx.interpret import FUNCTIONS
from campfire_fx.capture.from_onnx.layers import LAYERS
from campfire_fx.capture.from_onnx.read import read_onnx
from tests.capture.from_onnx.files import graph_file, in_onnxruntime, random

Case = tuple[str, list[str], dict[str, Any], dict[str, np.ndarray[Any, Any]], int]


def case(op: str, *constants: Any, opset: int = 18, first: str = "x", **attributes: Any) -> Case:
    """A node that reads x and then constants; None: left out."""
    names = ["" if value is None else f"c{index}" for index, value in enumerate(constants)]
    given = {name: np.asarray(value) for name, value in zip(names, constants, strict=True) if name}
    return op, [first, *names], attributes, given, opset


def whole(*values: int) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.int64)


PLAIN = (
    "Abs Neg Floor Ceil Round Exp Erf Sign Sin Cos Relu Sigmoid Tanh Softplus Softsign HardSwish Identity Selu".split()
)
REDUCED = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare".split()
CASES = {
    **{op: case(op) for op in PLAIN},
    **{op: case(op, whole(1, -1)) for op in REDUCED},
    **{f"{op} of all, flat": case(op, keepdims=0) for op in ("ReduceMean", "ReduceSum")},
    **{f"{op}, old": case(op, axes=[2, 3], opset=11) for op in ("ReduceMean", "ReduceSum")},
    **{op: case(op, random(4, 1, 1)) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean")},
    "Pow": case("Pow", np.float32(2.0)),
    "Mish": case("Mish"),
    "Gelu": case("Gelu", opset=20),
    "Gelu, tanh": case("Gelu", opset=20, approximate="tanh"),
    "LeakyRelu": case("LeakyRelu", alpha=0.2),
    "Elu": case("Elu", alpha=0.7),
    "Celu": case("Celu", alpha=0.7),
    "HardSigmoid": case("HardSigmoid", alpha=0.3, beta=0.4),
    "ThresholdedRelu": case("ThresholdedRelu", alpha=0.4),
    "Clip": case("Clip", np.float32(-0.3), np.float32(0.4)),
    "Clip to 6": case("Clip", np.float32(0), np.float32(6)),
    "Clip from below": case("Clip", np.float32(0.1)),
    "Clip, old": case("Clip", min=-0.2, max=0.3, opset=6),
    "Softmax": case("Softmax", axis=1),
    "Softmax, old": case("Softmax", axis=2, opset=11),
    "LogSoftmax": case("LogSoftmax"),
    "PRelu": case("PRelu", random(4, 1, 1)),
    "PRelu, an entry each": case("PRelu", random(4, 8, 8)),
    "Conv": case("Conv", random(6, 4, 3, 3), random(6), pads=[1, 1, 1, 1], strides=[2, 1]),
    "Conv, groups": case("Conv", random(8, 2, 3, 3), group=2, dilations=[2, 2]),
    "Conv, one side": case("Conv", random(6, 4, 3, 3), random(6), pads=[0, 0, 1, 1], strides=[2, 2]),
    "Conv, same": case("Conv", random(6, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv, same, lower": case("Conv", random(6, 4, 2, 2), auto_pad="SAME_LOWER"),
    "ConvTranspose": case("ConvTranspose", random(4, 6, 3, 3), random(6), strides=[2, 2], pads=[1, 1, 1, 1]),
    "ConvTranspose, output": case("ConvTranspose", random(4, 3, 3, 3), group=2, strides=[2, 2], output_padding=[1, 1]),
    "BatchNormalization": case(
        "BatchNormalization", random(4), random(4), random(4), np.abs(random(4)) + 0.5, epsilon=1e-3
    ),
    "InstanceNormalization": case("InstanceNormalization", random(4), random(4)),
    "LayerNormalization": case("LayerNormalization", random(8), random(8)),
    "GroupNormalization": case("GroupNormalization", random(4), random(4), num_groups=2, opset=21),
    "LRN": case("LRN", size=3, alpha=0.02, beta=0.6, bias=1.5),
    "MatMul": case("MatMul", random(8, 5)),
    "MatMul, batched": case("MatMul", random(4, 8, 5)),
    "MaxPool": case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool, ceil": case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "MaxPool, same": case("MaxPool", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_UPPER"),
    "AveragePool": case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "AveragePool, inside": case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "GlobalAveragePool": case("GlobalAveragePool"),
    "GlobalMaxPool": case("GlobalMaxPool"),
    "Flatten": case("Flatten"),
    "Flatten at 2": case("Flatten", axis=2),
    "Reshape": case("Reshape", whole(0, 2, -1, 8)),
    "Transpose": case("Transpose", perm=[0, 2, 3, 1]),
    "Unsqueeze": case("Unsqueeze", whole(1, -1)),
    "Unsqueeze, old": case("Unsqueeze", axes=[2], opset=11),
    "Concat": case("Concat", random(1, 4, 8, 8), axis=0),
    "Slice": case("Slice", whole(1, -6), whole(3, 2**63 - 1), whole(1, 3), whole(1, 2)),
    "Slice, old": case("Slice", starts=[1], ends=[-1], axes=[2], opset=9),
    "Gather": case("Gather", whole(3, 0, -1), axis=1),
    "Gather one": case("Gather", np.asarray(-2, np.int64), axis=1),
    "Gather a table": case("Gather", whole(3, 0, 1, 1).reshape(2, 2), axis=1),
    "Expand": case("Expand", whole(3, 2, 1, 1, 8)),
    "Tile": case("Tile", whole(1, 2, 1, 3)),
    "Pad": case("Pad", whole(0, 1, 2, 0, 0, 0, 1, 3), np.float32(0.5)),
    "Pad, reflected": case("Pad", whole(0, 0, 2, 1, 0, 0, 1, 3), mode="reflect"),
    "Pad, old": case("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.25, opset=10),
    "Pad along axes": case("Pad", whole(1, 2), None, whole(3), mode="edge"),
    "Resize, nearest": case("Resize", None, np.asarray([1, 1, 2, 2], np.float32), mode="nearest"),
    "Resize, asymmetric": case(
        "Resize",
        None,
        None,
        whole(2, 4, 12, 5),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "Resize, linear": case("Resize", None, np.asarray([1, 1, 1.5, 2], np.float32), mode="linear"),
    "Resize, corners": case(
        "Resize",
        None,
        np.asarray([1, 1, 2, 2], np.float32),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "Upsample": case("Upsample", np.asarray([1, 1, 2, 2], np.float32), opset=9),
    "DepthToSpace": case("DepthToSpace", blocksize=2),
    "DepthToSpace, CRD": case("DepthToSpace", blocksize=2, mode="CRD"),
    "SpaceToDepth": case("SpaceToDepth", blocksize=2),
    "Split": case("Split", whole(1, 3), axis=1),
    "Split, equal": case("Split", axis=2, num_outputs=2),
    "TopK": case("TopK", whole(3)),
    "ArgMax": case("ArgMax", axis=1),
    "Cast": case("Cast", to=11),
    "Dropout": case("Dropout"),
    "Einsum": case("Einsum", random(8, 3), equation="nchw,wk->nchk"),
    "Shape": case("Shape"),
    "Size": case("Size"),
}
OUTPUTS = {"Split": 2, "TopK": 2}
ELSEWHERE = set(
    "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not Where Mod Sqrt Log Reciprocal ConstantOfShape Range"
    " Squeeze Gemm ArgMin".split()
)


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    op, inputs, attributes, constants, opset = CASES[name]
    node = helper.make_node(op, inputs, [f"y{i}" for i in range(OUTPUTS.get(op, 1))], name="node", **attributes)
    path = graph_file(tmp_path / "model.onnx", [node], constants, opset=opset)
    check(path, free=name not in ("Expand", "Resize, asymmetric"))


def check(path: Path, *further: Tensor, free: bool = True) -> None:
    """The model read, and its capture, give what onnxruntime gives; the capture at another batch size, too."""
    model = read_onnx(path)
    x = torch.from_numpy(random(2, 4, 8, 8))
    captured = trace(model, (x, *further)).module
    calls = [(x, *further), (torch.cat((x, x * 0.5)), *further)]
    for inputs in calls[: 2 if free else 1]:
        expected = in_onnxruntime(path, *inputs)
        for run in (model, captured):
            found = run(*inputs)
            outputs = list(found) if isinstance(found, tuple) else [found]
            torch.testing.assert_close(outputs, expected, rtol=2e-5, atol=2e-6)


def test_comparisons_and_what_reads_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Greater", ["x", "half"], ["a"]),
        helper.make_node("LessOrEqual", ["x", "one"], ["b"]),
        helper.make_node("And", ["a", "b"], ["c"]),
        helper.make_node("Not", ["c"], ["d"]),
        helper.make_node("Xor", ["a", "d"], ["e"]),
        helper.make_node("Or", ["e", "c"], ["f"]),
        helper.make_node("Abs", ["x"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["root"]),
        helper.make_node("Add", ["positive", "one"], ["more"]),
        helper.make_node("Log", ["more"], ["log"]),
        helper.make_node("Reciprocal", ["more"], ["over"]),
        helper.make_node("Mod", ["positive", "half"], ["rest"], fmod=1),
        helper.make_node("Where", ["f", "root", "log"], ["g"]),
        helper.make_node("Equal", ["g", "rest"], ["h"]),
        helper.make_node("Where", ["h", "over", "rest"], ["i"]),
        helper.make_node("Add", ["i", "g"], ["y"]),
    ]
    constants = {"half": np.asarray(0.5, np.float32), "one": np.asarray(1.0, np.float32)}
    check(graph_file(tmp_path / "model.onnx", nodes, constants))


def test_sizes_that_are_computed_stay_free(tmp_path: Path) -> None:
    """As older exporters write x.view(x.size(0), -1) and x.view(n, 2, c // 2, h, w)."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"]),
        helper.make_node("Gather", ["shape", "one"], ["c"]),
        helper.make_node("Div", ["c", "two"], ["half"]),
        helper.make_node("Slice", ["shape", "from2", "to4"], ["image"]),
        helper.make_node("Unsqueeze", ["n", "axis0"], ["n_"]),
        helper.make_node("Unsqueeze", ["half", "axis0"], ["half_"]),
        helper.make_node("Concat", ["n_", "pair", "half_", "image"], ["split"], axis=0),
        helper.make_node("Reshape", ["x", "split"], ["five"]),
        helper.make_node("Transpose", ["five"], ["turned"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["turned", "shape"], ["shuffled"]),
        helper.make_node("Concat", ["n_", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["shuffled", "flat"], ["y"]),
    ]
    constants = {
        "zero": np.asarray(0, np.int64),
        "one": np.asarray(1, np.int64),
        "two": np.asarray(2, np.int64),
        "axis0": whole(0),
        "from2": whole(2),
        "to4": whole(4),
        "pair": whole(2),
        "rest": whole(-1),
    }
    path = graph_file(tmp_path / "model.onnx", nodes, constants, {"x": ("n", 4, "h", "w")})
    check(path)
    captured = trace(read_onnx(path), torch.from_numpy(random(2, 4, 8, 8))).module
    other = torch.from_numpy(random(3, 4, 6, 10))
    torch.testing.assert_close([captured(other)], in_onnxruntime(path, other))


def test_tensors_of_a_size_that_is_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["halves"], value=numpy_helper.from_array(np.float32([0.5]), "v")
        ),
        helper.make_node("Add", ["x", "halves"], ["more"]),
        helper.make_node("Range", ["zero", "eight", "one"], ["steps"]),
        helper.make_node("Cast", ["steps"], ["ramp"], to=1),
        helper.make_node("Mul", ["more", "ramp"], ["y"]),
    ]
    constants = {"zero": np.asarray(0, np.int64), "eight": np.asarray(8, np.int64), "one": np.asarray(1, np.int64)}
    check(graph_file(tmp_path / "model.onnx", nodes, constants))


@pytest.mark.parametrize(("turn", "alpha"), [(1, 1.0), (0, 1.0), (1, 0.5)])
def test_matrices(turn: int, alpha: float, tmp_path: Path) -> None:
    weight = random(5, 256) if turn else random(256, 5)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["z"], transB=turn, alpha=alpha),
        helper.make_node("Unsqueeze", ["z", "axis"], ["u"]),
        helper.make_node("Squeeze", ["u", "axis"], ["s"]),
        helper.make_node("ArgMin", ["s"], ["y"], axis=1),
    ]
    constants = {"w": weight, "b": random(5), "axis": whole(1)}
    check(graph_file(tmp_path / "model.onnx", nodes, constants))


def test_every_operator_is_tested() -> None:
    assert set(FUNCTIONS) | set(LAYERS) <= {found[0] for found in CASES.values()} | ELSEWHERE | {"Constant"}
