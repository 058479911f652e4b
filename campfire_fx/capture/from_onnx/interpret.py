"""A PyTorch model whose `forward` goes through the nodes of an ONNX graph."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import CaptureError
from campfire_fx.capture.from_onnx.layers import COMPUTED, LAYERS, Maker, apply, no_layer
from campfire_fx.capture.from_onnx.movement import MOVEMENT
from campfire_fx.capture.from_onnx.operators import OPERATORS
from campfire_fx.capture.from_onnx.pooling import POOLING
from campfire_fx.capture.from_onnx.values import Call, Node, Numbers

FUNCTIONS = {**OPERATORS, **MOVEMENT, **POOLING, **COMPUTED}
"""What a node computes, by its operator, where it is no layer."""

UNDERSTOOD = frozenset({*FUNCTIONS, *LAYERS, "Constant"})
"""Operators of the standard that have a row in a table."""


class OnnxGraph(nn.Module):
    """The main graph of an ONNX file. Its layers are submodules, its other constants buffers.

    Takes the tensors of the graph's inputs, in order or by name; gives a tensor, or a tuple of them.

    Attributes:
        input_names, output_names: as the file has them.
        example: (args, kwargs) of the file's sizes, with others where it leaves them free.
    """

    example: tuple[tuple[Tensor, ...], dict[str, Tensor]]

    def __init__(
        self,
        nodes: Sequence[Node],
        tensors: Mapping[str, Tensor],
        numbers: Mapping[str, Numbers],
        ends: tuple[Sequence[str], Sequence[str]],
        ranks: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.input_names, self.output_names = map(tuple, ends)
        self._numbers = dict(numbers)
        self._nodes: list[tuple[Node, str]] = []
        self.__class__ = _named_class(self.input_names)
        maker, names = Maker(tensors, ranks), _Names()
        for node in nodes:
            path = ""
            if (layer := maker.layer(node)) is not None:
                path = names.new(node.name or node.outputs[0])
                self.add_module(path, layer)
            elif node.op not in FUNCTIONS:
                raise no_layer(node)
            self._nodes.append((node, path))
        read = {name for node, path in self._nodes for name in (node.inputs[:1] if path else node.inputs)}
        read |= set(self.output_names)
        self._buffers_by_value: dict[str, str] = {}
        for name, tensor in tensors.items():
            if name in read:
                self._buffers_by_value[name] = names.new(name)
                self.register_buffer(self._buffers_by_value[name], tensor)

    def __reduce__(self) -> Any:
        """Copies and pickles find the class by the names of its inputs."""
        return _new, (self.input_names,), self.__dict__

    def _computed(self, *inputs: Tensor) -> Any:
        """Compute the outputs."""
        values: dict[str, Any] = dict(zip(self.input_names, inputs, strict=True))
        values |= self._numbers
        values |= {name: getattr(self, buffer) for name, buffer in self._buffers_by_value.items()}
        for node, path in self._nodes:
            call = Call(node, tuple(values.get(name) for name in node.inputs))
            result = apply(self.get_submodule(path), call) if path else FUNCTIONS[node.op](call)
            values.update(_named(node, result))
        outputs = tuple(_as_output(values[name]) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs


def _named(node: Node, result: Any) -> dict[str, Any]:
    """Return what a node gives by name; of most operators further outputs are for training."""
    if node.op not in _SEVERAL:
        return {node.outputs[0]: result}
    return {name: result[index] for index, name in enumerate(node.outputs)}


_SEVERAL = ("Split", "TopK")


def _as_output(value: Any) -> Tensor:
    return torch.tensor(value.tolist()) if isinstance(value, np.ndarray) else value


def _named_class(inputs: Sequence[str]) -> type[OnnxGraph]:
    """Return the class of graphs with such inputs: `forward` has a parameter for each, which exported files show."""
    names = _Names({"self"})
    given = ", ".join(names.new(name) for name in inputs)
    made: dict[str, Any] = {}
    exec(f"def forward(self, {given}): return self._computed({given})", made)
    return type("OnnxGraph", (OnnxGraph,), {"forward": made["forward"], "__module__": __name__})


def _new(inputs: Sequence[str]) -> OnnxGraph:
    made = _named_class(inputs)
    return made.__new__(made)


class _Names:
    """Names of submodules, buffers and inputs: those of the file, where Python and torch allow them."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = set(dir(nn.Module())) | set(keyword.kwlist) if taken is None else taken | set(keyword.kwlist)

    def new(self, name: str) -> str:
        plain = "".join(character if character.isalnum() else "_" for character in name).strip("_") or "value"
        plain = f"_{plain}" if plain[0].isdigit() else plain
        found, number = plain, 1
        while found in self._taken:
            number += 1
            found = f"{plain}_{number}"
        self._taken.add(found)
        return found


def fold(nodes: Sequence[Node], tensors: dict[str, Tensor], numbers: dict[str, Numbers]) -> list[Node]:
    """Compute once what is computed of constants alone; return the nodes that are left.

    The results stand in `tensors` and `numbers` then. Sizes and random numbers are no constants.
    """
    left: list[Node] = []
    for node in nodes:
        values = tuple(tensors.get(name, numbers.get(name)) for name in node.inputs)  # of "", what is left out: None
        known = all(value is not None for name, value in zip(node.inputs, values, strict=True) if name)
        if not (known and node.inputs and node.op in FUNCTIONS):
            left.append(node)
            continue
        with torch.no_grad():
            result = FUNCTIONS[node.op](Call(node, values))
        for name, value in _named(node, result).items():
            if isinstance(value, np.ndarray):
                numbers[name] = value
            else:
                tensors[name] = value
    return left


def check_known(nodes: Sequence[Node]) -> None:
    """Raise for operators that are not understood, all at once.

    Raises:
        CaptureError: names them.
    """
    unknown = sorted({node.op for node in nodes} - UNDERSTOOD)
    if unknown:
        raise CaptureError(
            f"the ONNX file has operators that are not understood: {', '.join(unknown)}. "
            "Shrink the model that it was exported from, or use campfire-fx shrink, which leaves them as they are."
        )
