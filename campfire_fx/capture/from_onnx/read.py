"""Read an ONNX file as a PyTorch model."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from campfire_fx.base.errors import CaptureError
from campfire_fx.base.hints import install_command
from campfire_fx.capture.from_onnx.interpret import UNDERSTOOD, OnnxGraph, check_known, fold
from campfire_fx.capture.from_onnx.values import Node, Numbers, is_small, numbers_of

_DOMAINS = ("", "ai.onnx")
_SETTINGS = ("Resize", "Upsample", "Pad", "Clip")  # operators whose further inputs were attributes once
_PASSING = ("Cast", "Concat", "Div", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that such an input may come through, from constants."""
_FREE = {0: 2, 2: 224, 3: 224}  # sizes of free axes: two samples of the usual image


def read_onnx(path: str | Path) -> OnnxGraph:
    """Return the model in an ONNX file, in evaluation mode: its layers as PyTorch's, its graph as code.

    It is called with the tensors of the file's inputs in order, and can be given to `shrink`, `sparsify` and `export`
    like any model. Sizes that the file leaves free stay free where the file computes with them as PyTorch does.

    Raises:
        CaptureError: the file cannot be read, or has operators, or settings of them, that are not understood: they are
            named. So are control flow, quantised layers and custom operators.
    """
    return network_in(load_onnx(path), path)


def load_onnx(path: str | Path) -> Any:
    """Return what a file holds, as `onnx` reads it. Raises CaptureError: it cannot be read."""
    onnx = _onnx()
    if not isinstance(path, (str, os.PathLike)):
        raise CaptureError(f"read_onnx: a {type(path).__name__} is no path. Give the name of a file, as 'model.onnx'.")
    if not Path(path).is_file():
        raise CaptureError(f"{path}: there is no such file. Check the path.")
    try:
        return onnx.load(str(path))
    except Exception as error:
        raise _unreadable(path, error) from error


def network_in(model: Any, path: str | Path) -> OnnxGraph:
    """Return the model in what `load_onnx` has read from a path. Raises as `read_onnx`."""
    onnx = _onnx()
    try:
        described = onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:
        raise _unreadable(path, error) from error
    opset = next((one.version for one in model.opset_import if one.domain in _DOMAINS), 1)
    nodes = [_node(onnx, node, opset) for node in model.graph.node]
    tensors, numbers = _constants(onnx, model.graph, nodes)
    nodes = [node for node in nodes if node.op != "Constant"]
    check_known(nodes)
    nodes = fold(nodes, tensors, numbers)
    inputs = inputs_of(model)
    ends = list(inputs), [value.name for value in model.graph.output]
    values = (*described.value_info, *described.input, *described.output)
    ranks = {one.name: len(one.type.tensor_type.shape.dim) for one in values if one.type.tensor_type.HasField("shape")}
    read = OnnxGraph(nodes, tensors, numbers, ends, ranks).eval()
    read.example = tuple(inputs.values()), {}
    return read


def inputs_of(model: Any) -> dict[str, Tensor]:
    """Return the inputs of a file by name, with examples of the file's sizes."""
    held = {one.name for one in model.graph.initializer}
    return {value.name: _example(_onnx(), value) for value in model.graph.input if value.name not in held}


def is_understood(node: Any) -> bool:
    """Say whether a node of a file is one of an operator that has a row in the tables."""
    return node.domain in _DOMAINS and node.op_type in UNDERSTOOD


def _unreadable(path: str | Path, error: Exception) -> CaptureError:
    return CaptureError(f"{path}: onnx cannot read it: {str(error).splitlines()[0]}. Export it again.")


def _onnx() -> Any:
    try:
        importlib.import_module("onnx.shape_inference")
        return importlib.import_module("onnx")
    except ImportError as error:
        raise CaptureError(
            f"the package onnx is needed for .onnx files and is not installed. Run {install_command('onnx')}."
        ) from error


def _node(onnx: Any, node: Any, opset: int) -> Node:
    if node.domain not in _DOMAINS:
        raise CaptureError(
            f"ONNX node '{node.name}': {node.domain}.{node.op_type} is no standard operator. "
            "Shrink the model that it was exported from."
        )
    attributes = {one.name: _attribute(onnx, one) for one in node.attribute}
    name = node.name or (node.output[0] if node.output else node.op_type)
    return Node(node.op_type, name, tuple(node.input), tuple(node.output), attributes, opset)


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _constants(onnx: Any, graph: Any, nodes: Iterable[Node]) -> tuple[dict[str, Tensor], dict[str, Numbers]]:
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    for node in nodes:
        if node.op == "Constant":
            arrays[node.outputs[0]] = np.asarray(_held(node))
    settings = {name for node in nodes if node.op in _SETTINGS for name in node.inputs[1:]}
    for node in reversed(list(nodes)):
        if node.op in _PASSING and not settings.isdisjoint(node.outputs):
            settings |= set(node.inputs)
    small = {name: array for name, array in arrays.items() if is_small(array, setting=name in settings)}
    return (
        {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if name not in small},
        {name: numbers_of(array.reshape(-1).tolist(), array.shape) for name, array in small.items()},
    )


def _held(node: Node) -> Any:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            held = node.attributes[name]
            return np.asarray(held, np.float32) if name.startswith("value_float") else held
    raise node.refused("it holds a text or a sparse tensor")


def _example(onnx: Any, value: Any) -> Tensor:
    kind = value.type.tensor_type
    dtype = torch.from_numpy(np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))).dtype
    sizes = [dim.dim_value if dim.dim_value > 0 else _FREE.get(axis, 16) for axis, dim in enumerate(kind.shape.dim)]
    return torch.randn(sizes).to(dtype) if dtype.is_floating_point else torch.zeros(sizes, dtype=dtype)
