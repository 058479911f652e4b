"""Nodes with weights of their own, as PyTorch's layers: what channels are cut from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.errors import CaptureError
from campfire_fx.capture.from_onnx.pooling import padded
from campfire_fx.capture.from_onnx.values import Call, Node

Constants = Mapping[str, Tensor]
"""Constant tensors of the file by name."""

Made = nn.Module | None
_CONVOLUTIONS: dict[int, type[Any]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[Any]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORMS: dict[int, type[Any]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE: dict[int, type[Any]] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


class Maker:
    """Makes layers from nodes and constants; two layers of one constant share it.

    Args:
        constants: of the file.
        ranks: number of axes of values, where the file says it.
    """

    def __init__(self, constants: Constants, ranks: Mapping[str, int]) -> None:
        self._constants = constants
        self._ranks = ranks
        self._parameters: dict[tuple[str, bool], nn.Parameter] = {}

    def layer(self, node: Node) -> Made:
        """Return the layer of a node; None where it has none, or its weights are computed."""
        make = LAYERS.get(node.op)
        return None if make is None else make(self, node)

    def constant(self, node: Node, position: int) -> Tensor | None:
        """Return what a node reads, if that is a constant of floating point."""
        name = node.inputs[position] if position < len(node.inputs) else ""
        found = self._constants.get(name)
        return found if found is not None and found.is_floating_point() else None

    def parameter(self, node: Node, position: int, *, turned: bool = False) -> nn.Parameter | None:
        """Return a constant as a parameter; `turned`: a matrix transposed."""
        tensor = self.constant(node, position)
        if tensor is None:
            return None
        key = node.inputs[position], turned
        if key not in self._parameters:
            self._parameters[key] = nn.Parameter((tensor.t() if turned else tensor).contiguous())
        return self._parameters[key]

    def rank(self, node: Node) -> int | None:
        """Return the number of axes of what goes in or comes out."""
        known = (self._ranks.get(name) for name in (node.inputs[0], node.outputs[0]))
        return next((rank for rank in known if rank is not None), None)


def apply(layer: Any, call: Call) -> Any:
    """Run a layer, with the padding that the node asks for and torch's layer has not."""
    x = call.tensor()
    if call.node.op == "Conv":
        x, padding = padded(x, layer.kernel_size, call)
        if padding != tuple(layer.padding):
            raise call.node.refused("its padding depends on the size of the image")
    return layer(x)


def _convolution(maker: Maker, node: Node) -> Made:
    weight, bias = maker.parameter(node, 1), maker.parameter(node, 2)
    if weight is None or (bias is None and len(node.inputs) > 2 and node.inputs[2]):
        return None
    dims = weight.ndim - 2
    settings = _settings(node, dims)
    pads = node.attributes.get("pads", (0,) * 2 * dims)
    same = node.attributes.get("auto_pad", "NOTSET") == "NOTSET" and pads[:dims] == pads[dims:]
    groups = settings["groups"]
    padding = tuple(pads[:dims]) if same else (0,) * dims
    layer = _CONVOLUTIONS[dims](
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], padding=padding, bias=bias is not None, **settings
    )
    return _filled(layer, weight=weight, bias=bias)


def _transposed(maker: Maker, node: Node) -> Made:
    weight, bias = maker.parameter(node, 1), maker.parameter(node, 2)
    if weight is None or (bias is None and len(node.inputs) > 2 and node.inputs[2]):
        return None
    dims = weight.ndim - 2
    pads = node.attributes.get("pads", (0,) * 2 * dims)
    if (
        node.attributes.get("auto_pad", "NOTSET") != "NOTSET"
        or pads[:dims] != pads[dims:]
        or "output_shape" in node.attributes
    ):
        raise node.refused("its padding is not the same at both ends")
    settings = _settings(node, dims)
    layer = _TRANSPOSED[dims](
        weight.shape[0],
        weight.shape[1] * settings["groups"],
        weight.shape[2:],
        padding=tuple(pads[:dims]),
        output_padding=tuple(node.attributes.get("output_padding", (0,) * dims)),
        bias=bias is not None,
        **settings,
    )
    return _filled(layer, weight=weight, bias=bias)


def _settings(node: Node, dims: int) -> dict[str, Any]:
    return {
        "stride": tuple(node.attributes.get("strides", (1,) * dims)),
        "dilation": tuple(node.attributes.get("dilations", (1,) * dims)),
        "groups": node.attributes.get("group", 1),
    }


def _gemm(maker: Maker, node: Node) -> Made:
    get = node.attributes.get
    usual = get("alpha", 1.0) == 1.0 and get("beta", 1.0) == 1.0 and not get("transA", 0)
    weight = maker.parameter(node, 1, turned=not get("transB", 0)) if usual else None
    bias = maker.parameter(node, 2) if weight is not None else None
    if weight is None or (bias is None and len(node.inputs) > 2 and node.inputs[2]):
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight=weight, bias=bias)


def _matmul(maker: Maker, node: Node) -> Made:
    constant = maker.constant(node, 1)
    if constant is None or constant.ndim != 2 or maker.rank(node) == 1:
        return None
    weight = maker.parameter(node, 1, turned=True)
    assert weight is not None
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias=False), weight=weight)


def _batch_norm(maker: Maker, node: Node) -> Made:
    tensors = [maker.constant(node, position) for position in range(1, 5)]
    if any(tensor is None for tensor in tensors) or node.attributes.get("training_mode", 0):
        return None
    make = _NORMS.get(maker.rank(node) or 4)
    if make is None:
        raise node.refused("it has more than five axes")
    scale, _, mean, var = tensors
    assert scale is not None and mean is not None and var is not None
    layer = make(len(scale), eps=node.attributes.get("epsilon", 1e-5))
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(var)
    return _filled(layer, weight=maker.parameter(node, 1), bias=maker.parameter(node, 2))


def _instance_norm(maker: Maker, node: Node) -> Made:
    scale, make = maker.parameter(node, 1), _INSTANCE.get(maker.rank(node) or 4)
    if scale is None or make is None:
        return None
    layer = make(len(scale), eps=node.attributes.get("epsilon", 1e-5), affine=True)
    return _filled(layer, weight=scale, bias=maker.parameter(node, 2))


def _layer_norm(maker: Maker, node: Node) -> Made:
    scale, rank, axis = maker.parameter(node, 1), maker.rank(node), node.attributes.get("axis", -1)
    if scale is None or len(node.outputs) > 1 or scale.ndim != (-axis if axis < 0 else (rank or 0) - axis):
        return None
    shift = maker.parameter(node, 2)
    layer = nn.LayerNorm(scale.shape, eps=node.attributes.get("epsilon", 1e-5), bias=shift is not None)
    return _filled(layer, weight=scale, bias=shift)


def _group_norm(maker: Maker, node: Node) -> Made:
    scale, shift = maker.parameter(node, 1), maker.parameter(node, 2)
    if scale is None or shift is None:
        return None
    groups = node.attributes["num_groups"]
    if node.opset < 21:
        raise node.refused("before version 21 it scales groups, not channels")
    return _filled(nn.GroupNorm(groups, len(scale), node.attributes.get("epsilon", 1e-5)), weight=scale, bias=shift)


def _prelu(maker: Maker, node: Node) -> Made:
    slope = maker.constant(node, 1)
    if slope is None or slope.numel() != max(slope.shape[:1] or (1,)):
        return None
    layer = nn.PReLU(slope.numel())
    with torch.no_grad():
        layer.weight.copy_(slope.reshape(-1))
    return layer


def _local_norm(_maker: Maker, node: Node) -> Made:
    get = node.attributes.get
    return nn.LocalResponseNorm(node.attributes["size"], get("alpha", 1e-4), get("beta", 0.75), get("bias", 1.0))


LAYERS: dict[str, Callable[[Maker, Node], Made]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "PRelu": _prelu,
    "LRN": _local_norm,
}


def _filled(layer: nn.Module, **parameters: nn.Parameter | None) -> nn.Module:
    for name, parameter in parameters.items():
        setattr(layer, name, parameter)
    return layer


def _computed_gemm(call: Call) -> Tensor:
    a, b, get = call.tensor(0), call.tensor(1), call.attribute
    a, b = (a.t() if get("transA", 0) else a), (b.t() if get("transB", 0) else b)
    product = torch.matmul(a, b)
    product = product if get("alpha", 1.0) == 1.0 else product * get("alpha")
    if call.get(2) is None:
        return product
    return product + (call.tensor(2) if get("beta", 1.0) == 1.0 else call.tensor(2) * get("beta"))


def _computed_prelu(call: Call) -> Tensor:
    return torch.where(call.tensor(0) < 0, call.tensor(0) * call.tensor(1), call.tensor(0))


def _computed_layer_norm(call: Call) -> Tensor:
    if len(call.node.outputs) > 1:
        raise call.node.refused("it has several outputs")
    x, scale = call.tensor(0), call.tensor(1)
    shift = None if call.get(2) is None else call.tensor(2)
    return F.layer_norm(x, scale.shape, scale, shift, call.attribute("epsilon", 1e-5))


COMPUTED: dict[str, Callable[[Call], Tensor]] = {
    "Gemm": _computed_gemm,
    "PRelu": _computed_prelu,
    "LayerNormalization": _computed_layer_norm,
}
"""The same operators where their weights are no constants."""


def no_layer(node: Node) -> CaptureError:
    """Return the error for a layer whose weights are computed, and that is no function here."""
    return node.refused("its weights are computed, or of a type that is not floating point")
