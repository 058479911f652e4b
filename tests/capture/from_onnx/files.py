"""ONNX files made node by node, and what onnxruntime makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import campfire_fx

GENERATOR = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray[Any, Any]:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def graph_file(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray[Any, Any]] | None = None,
    inputs: dict[str, tuple[Any, ...]] | None = None,
    opset: int = 18,
) -> Path:
    """A file of nodes that reads `inputs` (default: "x", any batch of 4x8x8), and gives what the last node gives."""
    given = inputs or {"x": ("n", 4, 8, 8)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
        [helper.make_empty_tensor_value_info(name) for name in nodes[-1].output if name],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def in_onnxruntime(path: Path, *inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(np.asarray(array)) for array in session.run(None, feeds)]


class Net(nn.Module):
    """A residual network with filters that are zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)
        with torch.no_grad():
            for buffer in (self.norm.running_mean, self.norm.bias):
                buffer.normal_()
            self.one.weight[::2] = 0
            self.stem.weight[1] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.two(nn.functional.hardswish(self.one(x)))
        return self.fc(self.pool(x).flatten(1))


def exported(path: Path) -> Path:
    """The network's file, with names that are none in Python."""
    campfire_fx.export(Net().eval(), path, torch.randn(2, 3, 12, 12), input_names=["in.1"], output_names=["out:0"])
    return path
