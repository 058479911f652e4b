"""The values between the nodes of an ONNX graph: tensors, and numbers that sizes are computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from campfire_fx.base.errors import CaptureError

Numbers = np.ndarray[Any, np.dtype[np.object_]]
"""Python's numbers, or sizes in a capture, in the shape that the ONNX tensor has."""

_MOST = 4096  # entries of an array of numbers: longer ones are data, and tensors


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node of the file.

    Attributes:
        op: what it computes, in ONNX's words.
        name: for messages.
        inputs: names of values; "" for one that is left out.
        outputs: names of values.
        attributes: as Python's values; tensors as numpy arrays.
        opset: the version of the operators.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def refused(self, why: str) -> CaptureError:
        """Return the error that says what of a node is not understood."""
        return CaptureError(f"ONNX node '{self.name}' ({self.op}): {why}. Export the model in another way.")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A node and the values that it is given, in order; None for one that is left out."""

    node: Node
    values: tuple[Any, ...]

    def get(self, position: int) -> Any:
        """Return a value; None where it is left out."""
        return self.values[position] if position < len(self.values) else None

    def tensor(self, position: int = 0) -> Tensor:
        """Return a value as a tensor."""
        return as_tensor(self.values[position], self)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or what the standard says where it is left out."""
        return self.node.attributes.get(name, default)

    def numbers(self, name: str, position: int) -> list[Any] | None:
        """Return numbers that the operator takes as an attribute in old versions and as an input in new ones."""
        given: Any = self.node.attributes.get(name)
        if given is None:
            given = self.get(position)
        if given is None:
            return None
        if not isinstance(given, (np.ndarray, tuple, int, float)):
            raise self.node.refused(f"its '{name}' are not known before it runs")
        return list(np.asarray(given, dtype=object).reshape(-1))

    def number(self, name: str, position: int, default: Any = None) -> Any:
        """Return one such number."""
        given = self.numbers(name, position)
        return given[0] if given else default


def numbers_of(values: Any, shape: tuple[int, ...] | None = None) -> Numbers:
    """Return an array of numbers as they are: numpy would ask sizes for their values."""
    flat = list(values) if isinstance(values, (list, tuple)) else [values]
    array = np.empty(len(flat), dtype=object)
    for index, value in enumerate(flat):
        array[index] = value
    return array.reshape((len(flat),) if shape is None else shape)


def is_small(array: np.ndarray[Any, Any], *, setting: bool) -> bool:
    """Say whether a constant is numbers to compute sizes with, or one number, rather than data.

    Args:
        array: the constant.
        setting: whether an operator reads it as an attribute is read: the scales of Resize.
    """
    kinds = "iubf" if setting else "iub"
    return array.ndim == 0 or (array.ndim == 1 and array.dtype.kind in kinds and array.size <= _MOST)


def as_tensor(value: Any, call: Call) -> Tensor:
    """Return numbers as a tensor, on the device of the tensors beside them."""
    if not isinstance(value, np.ndarray):
        return value
    beside = next((one for one in call.values if one is not None and not isinstance(one, np.ndarray)), None)
    return torch.tensor(value.tolist(), device=None if beside is None else beside.device)


def plain_number(value: Any) -> Any:
    """Return one number as Python's, so that it takes the type of the tensors beside it; else the value."""
    return value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value
