"""Operations that skip the zeros of a weight, for eager code and for graphs: `campfire_fx::sparse_convolution`, `_linear`.

Eager code calls the kernels directly, which takes a few microseconds less than torch's dispatcher; torch.compile and
torch.export see an operation with a known shape. Where the kernels cannot be had (a file that was made elsewhere, on a
machine without a compiler), or in float64, the weight is made dense, and torch computes.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

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

_PACKED = "Tensor positions, Tensor values, int[] shape"
_GEOMETRY = "int[] stride, int[] padding, int[] dilation, int groups"
_EPILOGUE = "Tensor? bias, Tensor? residual, str activation"

_library = Library("campfire_fx", "DEF")
_library.define(f"sparse_convolution(Tensor x, {_PACKED}, {_GEOMETRY}, {_EPILOGUE}) -> Tensor")
_library.define(f"sparse_linear(Tensor x, {_PACKED}, {_EPILOGUE}) -> Tensor")


def convolution(x: Tensor, packed: Packed, bias: Tensor | None, residual: Tensor | None, activation: str) -> Tensor:
    """Return activation(convolution(x) + bias + residual) of images (N, C, H, W)."""
    functions = _functions() if x.dtype is torch.float32 else None
    if functions is None:
        geometry = packed.geometry
        y = F.conv2d(x, packed.dense(), bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
        return finished(y, residual, activation)
    if activation in ACTIVATIONS and (residual is None or residual.shape == _output_shape(x, packed)):
        return convolve(functions, x, packed, bias, residual=residual, activation=activation)  # type: ignore[arg-type]
    return finished(convolve(functions, x, packed, bias), residual, activation)


def linear(x: Tensor, packed: Packed, bias: Tensor | None, residual: Tensor | None, activation: str) -> Tensor:
    """Return activation(x @ weight.T + bias + residual) of features (..., C)."""
    functions = _functions() if x.dtype is torch.float32 else None
    if functions is None:
        return finished(F.linear(x, packed.dense().flatten(1), bias), residual, activation)
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    if residual is None and activation in ACTIVATIONS:
        y = multiply(functions, rows, packed, bias, activation=activation)  # type: ignore[arg-type]
        return y if x.ndim == 2 else y.view(*x.shape[:-1], y.shape[-1])
    return finished(multiply(functions, rows, packed, bias).view(*x.shape[:-1], packed.shape[0]), residual, activation)


def _output_shape(x: Tensor, packed: Packed) -> tuple[int, ...]:
    return (x.shape[0], packed.shape[0], *packed.geometry.output_size((x.shape[2], x.shape[3]), packed.shape[2:]))


@functools.cache
def _functions() -> object | None:
    """Return the compiled kernels, or None where they cannot be had, which is said once."""
    try:
        return kernels().functions
    except CannotCompileError as error:
        _log.warning("Layers that skip zeros compute with dense weights, which is slower: %s", error)
        return None


def _packed(
    positions: Tensor, values: Tensor, shape: Sequence[int], geometry: Sequence[Sequence[int]], groups: int
) -> Packed:
    filters, channels, rows, columns = shape
    stride, padding, dilation = ((pair[0], pair[1]) for pair in geometry)
    return Packed(positions, values, (filters, channels, rows, columns), Geometry(stride, padding, dilation, groups))


def _convolution(
    x: Tensor, positions: Tensor, values: Tensor, shape: list[int], stride: list[int], padding: list[int],
    dilation: list[int], groups: int, bias: Tensor | None, residual: Tensor | None, activation: str,
) -> Tensor:  # fmt: skip
    packed = _packed(positions, values, shape, (stride, padding, dilation), groups)
    return convolution(x, packed, bias, residual, activation)


def _linear(
    x: Tensor, positions: Tensor, values: Tensor, shape: list[int], bias: Tensor | None, residual: Tensor | None,
    activation: str,
) -> Tensor:  # fmt: skip
    return linear(x, _packed(positions, values, shape, ((1, 1), (0, 0), (1, 1)), 1), bias, residual, activation)


def _convolution_shape(
    x: Tensor, positions: Tensor, values: Tensor, shape: list[int], stride: list[int], padding: list[int],
    dilation: list[int], groups: int, bias: Tensor | None, residual: Tensor | None, activation: str,
) -> Tensor:  # fmt: skip
    y = x.new_empty(_output_shape(x, _packed(positions, values, shape, (stride, padding, dilation), groups)))
    return y if residual is None else y.new_empty(torch.broadcast_shapes(y.shape, residual.shape))


def _linear_shape(
    x: Tensor, positions: Tensor, values: Tensor, shape: list[int], bias: Tensor | None, residual: Tensor | None,
    activation: str,
) -> Tensor:  # fmt: skip
    y = x.new_empty((*x.shape[:-1], shape[0]))
    return y if residual is None else y.new_empty(torch.broadcast_shapes(y.shape, residual.shape))


_library.impl("sparse_convolution", _convolution, "CPU")
_library.impl("sparse_linear", _linear, "CPU")
_library.impl("sparse_convolution", _convolution_shape, "Meta")
_library.impl("sparse_linear", _linear_shape, "Meta")
