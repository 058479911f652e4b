"""Operations that skip the zeros of a weight: `campfire_fx::sparse_convolution` and `campfire_fx::sparse_linear`.

Eager code calls the kernels directly, which takes a few microseconds less than torch's dispatcher; torch.compile and
torch.export see an operation with a known shape. Where the kernels cannot be had (a file that was made elsewhere, on a
machine without a compiler), or in float64, the weight is made dense, and torch computes.
"""

from __future__ import annotations

import ctypes
import functools
import logging

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.library import Library

from campfire_fx.kernels.convolve import ACTIVATIONS, convolve, multiply
from campfire_fx.kernels.libraries import CannotCompileError
from campfire_fx.kernels.packed import Geometry, Packed
from campfire_fx.kernels.ready import kernels
from campfire_fx.layers.fused import finished

_log = logging.getLogger(__name__)

_PACKED = "Tensor positions, Tensor values, int[] layout"
_EPILOGUE = "Tensor? bias, Tensor? residual, *, str activation"

_library = Library("campfire_fx", "DEF")


def convolution(x: Tensor, packed: Packed, bias: Tensor | None, residual: Tensor | None, activation: str) -> Tensor:
    """Return activation(convolution(x) + bias + residual) of images (N, C, H, W)."""
    functions = _functions() if x.dtype is torch.float32 else None
    if functions is None:
        geometry = packed.geometry
        y = F.conv2d(x, packed.dense(), bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
        return finished(y, residual, activation)
    if activation in ACTIVATIONS and (residual is None or residual.shape == _output_shape(x, packed)):
        return convolve(functions, x, packed, bias, residual=residual, activation=activation)
    return finished(convolve(functions, x, packed, bias), residual, activation)


def linear(x: Tensor, packed: Packed, bias: Tensor | None, residual: Tensor | None, activation: str) -> Tensor:
    """Return activation(x @ weight.T + bias + residual) of features (..., C)."""
    functions = _functions() if x.dtype is torch.float32 else None
    if functions is None:
        return finished(F.linear(x, packed.dense().flatten(1), bias), residual, activation)
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    if residual is None and activation in ACTIVATIONS:
        y = multiply(functions, rows, packed, bias, activation=activation)
        return y if x.ndim == 2 else y.view(*x.shape[:-1], y.shape[-1])
    return finished(multiply(functions, rows, packed, bias).view(*x.shape[:-1], packed.shape[0]), residual, activation)


def _output_shape(x: Tensor, packed: Packed) -> tuple[int, ...]:
    return (x.shape[0], packed.shape[0], *packed.geometry.output_size((x.shape[2], x.shape[3]), packed.shape[2:]))


@functools.cache
def _functions() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where they cannot be had, which is said once."""
    try:
        return kernels().functions
    except CannotCompileError as error:
        _log.warning("Layers that skip zeros compute with dense weights, which is slower: %s", error)
        return None


def layout_of(packed: Packed) -> list[int]:
    """Return the shape and geometry of a packed weight as the operations take it: 11 numbers."""
    geometry = packed.geometry
    return [*packed.shape, *geometry.stride, *geometry.padding, *geometry.dilation, geometry.groups]


def _packed(positions: Tensor, values: Tensor, layout: list[int]) -> Packed:
    filters, channels, rows, columns, *pairs, groups = layout
    stride, padding, dilation = zip(pairs[::2], pairs[1::2], strict=True)
    return Packed(positions, values, (filters, channels, rows, columns), Geometry(stride, padding, dilation, groups))


def _convolution(
    x: Tensor, positions: Tensor, values: Tensor, layout: list[int], bias: Tensor | None, residual: Tensor | None,
    *, activation: str,
) -> Tensor:  # fmt: skip
    return convolution(x, _packed(positions, values, layout), bias, residual, activation)


def _linear(
    x: Tensor, positions: Tensor, values: Tensor, layout: list[int], bias: Tensor | None, residual: Tensor | None,
    *, activation: str,
) -> Tensor:  # fmt: skip
    return linear(x, _packed(positions, values, layout), bias, residual, activation)


def _convolution_shape(
    x: Tensor, positions: Tensor, values: Tensor, layout: list[int], _: Tensor | None, residual: Tensor | None,
    **_activation: str,
) -> Tensor:  # fmt: skip
    return _empty(x, _output_shape(x, _packed(positions, values, layout)), residual)


def _linear_shape(
    x: Tensor, _positions: Tensor, _values: Tensor, layout: list[int], _: Tensor | None, residual: Tensor | None,
    **_activation: str,
) -> Tensor:  # fmt: skip
    return _empty(x, (*x.shape[:-1], layout[0]), residual)


def _empty(x: Tensor, shape: tuple[int, ...], residual: Tensor | None) -> Tensor:
    return x.new_empty(shape if residual is None else torch.broadcast_shapes(shape, residual.shape))


for _name, _computed, _shaped in (
    ("sparse_convolution", _convolution, _convolution_shape),
    ("sparse_linear", _linear, _linear_shape),
):
    _library.define(f"{_name}(Tensor x, {_PACKED}, {_EPILOGUE}) -> Tensor")
    _library.impl(_name, _computed, "CPU")
    _library.impl(_name, _shaped, "Meta")
