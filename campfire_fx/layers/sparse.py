"""Layers that skip zeros: the weights that are not zero, packed, and kernels of the CPU's that read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.compat import is_traced
from campfire_fx.base.errors import KernelError
from campfire_fx.kernels.packed import Geometry, Packed
from campfire_fx.layers.sparse_operations import convolution, layout_of, linear


class SparseLayer(nn.Module):
    """Base of layers that skip zeros: y = activation(layer(x) + residual). They compute, and train no more.

    Attributes:
        positions: int32 (n,), where the weights that are not zero stand in the flat weight, increasing.
        values: float32 (n,), these weights.
        bias: float32 (K,), or None.
        shape: of the weight, as (K, C / groups, R, S).
        geometry: how a convolution moves.
        activation: a name in `layers.fused.ACTIVATE`; "": none.
    """

    positions: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, activation: str = "") -> None:
        super().__init__()
        self.register_buffer("positions", packed.positions)
        self.register_buffer("values", packed.values)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.shape, self.geometry, self.activation = packed.shape, packed.geometry, activation
        self.training = False

    @property
    def packed(self) -> Packed:
        """The weight."""
        return Packed(self.positions, self.values, self.shape, self.geometry)

    def extra_repr(self) -> str:
        """Say what it computes."""
        left = self.values.numel() / max(1, self.shape[0] * self.shape[1] * self.shape[2] * self.shape[3])
        return f"{self.shape}, {100 * left:.1f} % not zero, {self.geometry}, activation={self.activation!r}"

    def _check(self, *given: Tensor | None) -> None:
        if self.training:
            raise KernelError(
                "A layer that skips zeros was put in training mode: an accelerated model cannot be trained. "
                "Call .eval(), or train the slim model and accelerate it again."
            )
        if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in given):
            raise KernelError(
                "A layer that skips zeros was given a tensor that requires grad: an accelerated model has no backward "
                "pass. Call it under torch.no_grad(), or train the slim model and accelerate it again."
            )

    def _traced(self, operation: Any, x: Tensor, residual: Tensor | None) -> Tensor:
        packed = self.packed
        return operation(
            x, self.positions, self.values, layout_of(packed), self.bias, residual, activation=self.activation
        )


class SparseConvolution(SparseLayer):
    """A convolution over one or two dimensions, with zeros for padding."""

    def __init__(self, packed: Packed, bias: Tensor | None, activation: str = "", dims: int = 2) -> None:
        super().__init__(packed, bias, activation)
        self.dims = dims

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return activation(convolution(x) + residual); x as nn.Conv1d or nn.Conv2d takes it."""
        self._check(x, residual)
        if self.dims == 2 and x.ndim == 4:
            return self._images(x, residual)
        batched = x.ndim == self.dims + 2
        y = self._images(self._as_images(x, batched), None if residual is None else self._as_images(residual, batched))
        y = y if batched else y.squeeze(0)
        return y.squeeze(-2) if self.dims == 1 else y

    def _as_images(self, x: Tensor, batched: bool) -> Tensor:
        x = x if batched else x.unsqueeze(0)
        return x.unsqueeze(-2) if self.dims == 1 else x

    def _images(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if not is_traced(x):
            return convolution(x, self.packed, self.bias, residual, self.activation)
        return self._traced(torch.ops.campfire_fx.sparse_convolution, x, residual)


class SparseLinear(SparseLayer):
    """A linear layer, whose weight is packed as (K, C, 1, 1)."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return activation(x @ weight.T + bias + residual), x (..., C)."""
        self._check(x, residual)
        if not is_traced(x):
            return linear(x, self.packed, self.bias, residual, self.activation)
        return self._traced(torch.ops.campfire_fx.sparse_linear, x, residual)


def sparse_layer(layer: Any, activation: str = "") -> SparseLayer | str:
    """Return a layer that computes what a convolution or linear layer of torch's and an activation do, or why not."""
    weight, bias = layer.weight.detach(), layer.bias
    if weight.dtype is not torch.float32 or weight.device.type != "cpu":
        return "its weight is not of float32 on the CPU"
    if weight.ndim == 2:
        return SparseLinear(Packed.of(weight[:, :, None, None], Geometry()), bias, activation)
    dims = weight.ndim - 2
    if layer.transposed:
        return "it is transposed"
    if dims > 2:
        return f"it has {dims} dimensions of space"
    if layer.padding_mode != "zeros":
        return f"it pads by {layer.padding_mode}"
    ends = _padding(layer)
    if ends is None:
        return "it pads its two ends differently"
    ahead = (1,) * (2 - dims)
    geometry = Geometry((*ahead, *layer.stride), ((0,) * (2 - dims) + ends), (*ahead, *layer.dilation), layer.groups)
    images = weight if dims == 2 else weight.unsqueeze(-2)
    return SparseConvolution(Packed.of(images, geometry), bias, activation, dims)


def _padding(layer: Any) -> tuple[int, ...] | None:
    """Return the padding at each end of every axis; None where the two ends differ."""
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    if layer.padding != "same":
        return tuple(layer.padding)
    total = [step * (size - 1) for size, step in zip(layer.kernel_size, layer.dilation, strict=True)]
    return None if any(pads % 2 for pads in total) else tuple(pads // 2 for pads in total)
