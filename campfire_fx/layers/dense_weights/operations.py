"""Operations with a weight, each with its two gradients apart, and the autograd function that keeps them sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from campfire_fx.base.zeroing import selected
from campfire_fx.layers.dense_weights.packing import axes_in_memory, pack, unpack


class Operation(Protocol):
    """Something linear in its input and in its weight."""

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute it."""

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the gradient of an input of a shape, from that of the output."""

    def weight_gradient(self, gradient: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the gradient of a weight of a shape, from that of the output."""

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the bias, from that of the output."""


@dataclass(frozen=True, slots=True)
class ProductOp:
    """A linear layer: (..., in) with a weight (out, in) to (..., out)."""

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Operation`."""
        return F.linear(x, weight, bias)

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Operation`."""
        return (gradient @ weight).view(shape)

    def weight_gradient(self, gradient: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Operation`."""
        return (gradient.reshape(-1, shape[0]).T @ x.reshape(-1, shape[1])).view(shape)

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        """See `Operation`."""
        return gradient.reshape(-1, gradient.shape[-1]).sum(0)


@dataclass(frozen=True, slots=True)
class ConvolutionOp:
    """A convolution of any number of dimensions, transposed or not, padded with zeros; its input has a batch axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Operation`."""
        return torch.convolution(x, weight, bias, *self._settings)

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Operation`."""
        return self._gradient(gradient, gradient.new_empty(1).expand(shape), weight, 0)

    def weight_gradient(self, gradient: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Operation`."""
        return self._gradient(gradient, x, gradient.new_empty(1).expand(shape), 1)

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        """See `Operation`."""
        return gradient.transpose(0, 1).flatten(1).sum(1)

    @property
    def _settings(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups

    def _gradient(self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: int) -> Tensor:
        mask = [wanted == 0, wanted == 1, False]
        backward = torch.ops.aten.convolution_backward
        return cast(Tensor, backward(gradient, x, weight, None, *self._settings, mask)[wanted])


class SparseBackward(torch.autograd.Function):
    """y = f(x, W') + b forward; dx = f'(dy, W') and dW = f'(x', dy) backward (SWAT, Algorithm 1).

    W' is the weight under its mask, x' what is kept of the input. The input is dense in the forward pass, the
    gradients of output, weight and bias are dense. Of x only x' stays, packed. Of W' nothing does: the dense weight
    and the mask are there anyway, and make it again.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd takes arguments by place
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mask: Tensor,
        values: Tensor | None,
        where: Tensor | None,
        operation: Operation,
    ) -> Tensor:
        """Compute with the weight under its mask, in the dtype of the input.

        Args:
            ctx: autograd's.
            x: the input, dense.
            weight: the dense weight.
            bias: of the operation, or None.
            mask: of the weight's shape, bool.
            values: as `pack` gives them for x; None where the weight needs no gradient.
            where: the same.
            operation: what is computed.
        """
        ctx.operation, ctx.shape, ctx.axes, ctx.dtype = operation, x.shape, axes_in_memory(x), x.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(weight, mask, values, where)
        return operation.output(x, _sparse(weight, mask, x.dtype), _cast(bias, x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients of x, weight and bias."""
        weight, mask, values, where = ctx.saved_tensors
        operation: Operation = ctx.operation
        dx = dw = db = None
        if ctx.needs_input_grad[1]:
            x = unpack(values, where, ctx.shape, ctx.axes)
            dw = operation.weight_gradient(gradient, x, weight.shape).to(weight.dtype)
            del x
        if ctx.needs_input_grad[0]:
            dx = operation.input_gradient(gradient, _sparse(weight, mask, ctx.dtype), ctx.shape)
        if ctx.needs_input_grad[2]:
            db = operation.bias_gradient(gradient).to(ctx.bias_dtype)
        return dx, dw, db, None, None, None, None


class StraightThrough(torch.autograd.Function):
    """The weight under its mask, whose gradient goes to the dense weight as it is."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        """Return the weight with zeros where the mask, bool, is False."""
        del ctx
        return selected(weight, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients of weight and mask."""
        del ctx
        return gradient, None


def sparse_backward(
    operation: Operation, x: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor, threshold: Tensor | None
) -> Tensor:
    """Compute an operation with the weight under a mask, and sparse gradients: see `SparseBackward`.

    Args:
        operation: what is computed.
        x: the input, dense.
        weight: the dense weight.
        bias: of the operation, or None.
        mask: of the weight's shape, bool.
        threshold: () the smallest magnitude of x that the weight's gradient sees; None: all of x.
    """
    if threshold is None:  # then torch's own backward pass does it, and keeps an x that is there anyway
        return operation.output(x, StraightThrough.apply(weight, mask).to(x.dtype), _cast(bias, x.dtype))
    values, where = pack(x, threshold) if weight.requires_grad else (None, None)
    return cast(Tensor, SparseBackward.apply(x, weight, bias, mask, values, where, operation))


def _cast(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)


def _sparse(weight: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    return selected(weight, mask).to(dtype)
