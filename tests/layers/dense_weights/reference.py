"""SWAT's formulas on dense tensors, in the plainest form (Algorithm 1): what the tests compare with."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad


def kth(tensor: Tensor, sparsity: float) -> float:
    """The k-th largest magnitude, k = ceil((1 - s) * numel)."""
    k = math.ceil(round((1 - sparsity) * tensor.numel(), 9))
    return float(tensor.detach().abs().flatten().sort(descending=True).values[k - 1])


def top(tensor: Tensor, sparsity: float) -> Tensor:
    """Everything below the k-th largest magnitude becomes zero."""
    return torch.where(tensor.abs() >= kth(tensor, sparsity), tensor, 0)


class Conv(torch.autograd.Function):
    """y = conv(x, W'), dx = conv'(dy, W'), dW = conv'(x', dy), db = sum(dy)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, w_sparse: Tensor, x_sparse: Tensor, b: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x_sparse, w_sparse)
        ctx.padding = padding
        return F.conv2d(x, w_sparse, b, padding=padding)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, w = ctx.saved_tensors
        dx = grad.conv2d_input(x.shape, w, dy, padding=ctx.padding)
        dw = grad.conv2d_weight(x, w.shape, dy, padding=ctx.padding)
        return dx, dw, None, None, dy.sum((0, 2, 3)), None


def conv(x: Tensor, w: Tensor, b: Tensor | None, padding: int, *, w_sparse: Tensor, x_sparse: Tensor) -> Tensor:
    b = w.new_zeros(len(w)) if b is None else b
    out: Tensor = Conv.apply(x, w, w_sparse.detach(), x_sparse.detach(), b, padding)  # type: ignore[no-untyped-call]
    return out


def linear(x: Tensor, w: Tensor, b: Tensor, *, w_sparse: Tensor, x_sparse: Tensor) -> Tensor:
    """The same for (N, in), as a convolution of one pixel."""
    w4, x4, w4_sparse, x4_sparse = (t[..., None, None] for t in (w, x, w_sparse, x_sparse))
    return conv(x4, w4, b, 0, w_sparse=w4_sparse, x_sparse=x4_sparse)[..., 0, 0]
