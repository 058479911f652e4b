"""ONNX files with nodes that are not understood: those stay as they are, and the rest is a network that shrinks.

What such a node reads is an output of that network, and what it gives an input: neither changes. So nothing needs to be
known of `If`, `Loop`, `LSTM`, operators of vendors or functions of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from campfire_fx.base.disk.whole import write_file
from campfire_fx.base.errors import CaptureError, ExportError
from campfire_fx.capture.from_onnx.interpret import OnnxGraph
from campfire_fx.capture.from_onnx.read import inputs_of, is_understood, load_onnx, network_in
from campfire_fx.export.agreement import first_line
from campfire_fx.export.calls import fed
from campfire_fx.export.onnx_file import OnnxModel, required

_APART = "slim/"  # before the names inside the network, which may be those of nodes that stay


@dataclass(frozen=True, slots=True, eq=False)
class KeptNodes:
    """Nodes of a file that stay.

    Attributes:
        path: of the file.
        model: the file.
        nodes: those that stay.
        given: values of theirs that the network reads: its last inputs.
    """

    path: Path
    model: Any
    nodes: Sequence[Any]
    given: Sequence[str]

    @property
    def told(self) -> str:
        """How many there are of which operator."""
        counts = Counter(node.op_type for node in self.nodes)
        return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))

    @property
    def opset(self) -> int:
        """The version of the operators, as far as `export` writes it."""
        return max(18, *(one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")))

    def own(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return those of the network's inputs that are the file's."""
        return tuple(inputs[: len(inputs) - len(self.given)])

    def inputs(self, own: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the network's inputs for those of the file: onnxruntime computes what the nodes give.

        Raises:
            CaptureError: it does not run the file on these.
        """
        onnx, runtime = required("onnx"), required("onnxruntime")
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in self.given)
        try:
            session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            feeds = fed([one.name for one in session.get_inputs()], tuple(own), {})
            found = session.run(list(self.given), {name: value.numpy() for name, value in feeds.items()})
        except Exception as error:
            raise CaptureError(
                f"{self.path}: {self.told} are not understood, so onnxruntime has to run them, which it does not: "
                f"{first_line(error)}. Shrink the model that the file was exported from, or give --example."
            ) from error
        return (*own, *map(torch.from_numpy, found))

    def put_back(self, path: Path) -> int:
        """Put the nodes into the exported file of a smaller network; return its bytes.

        Raises:
            ExportError: the file that comes out is none.
        """
        onnx = required("onnx")
        slim, graph = onnx.load(str(path)), self.model.graph
        ends = {one.name for one in (*slim.graph.input, *slim.graph.output)}
        _rename(slim.graph, ends)
        made = {name for node in (*slim.graph.node, *self.nodes) for name in node.output}
        read = {name for node in self.nodes for name in _reads(node)} | {one.name for one in graph.output}
        constants = [node for node in graph.node if node.op_type == "Constant" and read & set(node.output) - made]
        slim.graph.initializer.extend(one for one in graph.initializer if one.name in read - made)
        nodes = _sorted([*slim.graph.node, *self.nodes, *constants])
        for field, values in (("input", graph.input), ("output", graph.output)):
            own = {one.name: one for one in getattr(slim.graph, field)}
            mine = [own.get(one.name, one) for one in values if one.name not in {i.name for i in graph.initializer}]
            _fill(getattr(slim.graph, field), mine)
        _fill(slim.graph.node, nodes)
        _fill(slim.graph.value_info, [])
        _fill(slim.metadata_props, [])
        slim.functions.extend(self.model.functions)
        known = {one.domain for one in slim.opset_import}
        slim.opset_import.extend(one for one in self.model.opset_import if one.domain not in {*known, "ai.onnx"})
        slim.ir_version = max(slim.ir_version, self.model.ir_version)
        write_file(path, lambda file: file.write(slim.SerializeToString()))
        try:
            OnnxModel(path)
        except ExportError as error:
            path.unlink()
            raise ExportError(
                f"{path}: {self.told} cannot be put back into a file of opset {self.opset}. {error}"
            ) from error
        return path.stat().st_size


def open_onnx(path: Path) -> tuple[OnnxGraph, KeptNodes | None]:
    """Return the network of a file, and the nodes that are no part of it; None where it is all of them.

    Raises:
        CaptureError: the file cannot be read, or nothing is left that is understood.
    """
    model = load_onnx(path)
    kept = [node for node in model.graph.node if not is_understood(node)]
    if not kept:
        return network_in(model, path), None
    onnx = required("onnx")
    rest = [node for node in model.graph.node if is_understood(node)]
    read = {name for node in rest for name in node.input}
    made = {name for node in rest for name in node.output if node.op_type != "Constant"}
    wanted = [one.name for one in model.graph.output] + [name for node in kept for name in _reads(node)]
    leaving = [name for name in dict.fromkeys(wanted) if name in made]
    nodes = KeptNodes(path, model, kept, [name for node in kept for name in node.output if name in read])
    if not leaving:
        raise CaptureError(f"{path}: {nodes.told} of its nodes are not understood, and nothing else is left to shrink.")
    part = onnx.ModelProto()
    part.CopyFrom(model)
    _fill(part.graph.node, rest)
    _fill(part.graph.output, [onnx.helper.make_empty_tensor_value_info(name) for name in leaving])
    own = tuple(inputs_of(model).values())
    inputs = nodes.inputs(own)
    for name, value in zip(nodes.given, inputs[len(own) :], strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.numpy().dtype)
        part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, tuple(value.shape)))
    network = network_in(part, path)
    network.example = inputs, {}
    return network, nodes


def _reads(node: Any) -> list[str]:
    """Return what a node reads, also by name in the graphs inside it."""
    names = [name for name in node.input if name]
    for graph in (graph for one in node.attribute for graph in (*([one.g] if one.HasField("g") else ()), *one.graphs)):
        own = {one.name for one in (*graph.input, *graph.initializer)}
        own |= {name for inner in graph.node for name in inner.output}
        found = [name for inner in graph.node for name in _reads(inner)] + [one.name for one in graph.output]
        names += [name for name in found if name not in own]
    return names


def _rename(graph: Any, ends: set[str]) -> None:
    """Give the values inside a graph names that no other has."""
    for node in graph.node:
        for names in (node.input, node.output):
            _fill(names, [name if name in ends or not name else _APART + name for name in names])
        node.name = _APART + node.name
    for one in graph.initializer:
        if one.name not in ends:
            one.name = _APART + one.name


def _sorted(nodes: Sequence[Any]) -> list[Any]:
    """Return nodes so that each comes after those whose values it reads."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    needs = {n: {makers[name] for name in _reads(node) if name in makers} for n, node in enumerate(nodes)}
    return [nodes[number] for number in TopologicalSorter(needs).static_order()]


def _fill(field: Any, values: Iterable[Any]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)
