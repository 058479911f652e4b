"""Functions of one number, whoever wrote them, and branches that are weighed against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import case, conv

X = (2, 3, 8, 8)
DEAD = {"a": (0, 1, 5)}
ZERO = {"a.weight": (5, 3, 3, 3), "b.weight": (4, 5, 3, 3)}


class _Activated(nn.Module):
    """A dead filter is zero, and zero after the activation."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


@case(X, kill=DEAD, kept=ZERO)
def Powers() -> nn.Module:
    """Powers with an exponent that is written out."""
    return _Activated(lambda y: (y**2).pow(1.5) + torch.pow(y.abs(), 3.0) + y.square().pow_(2))


@case(X, kill=DEAD, kept=ZERO)
def Shrinkages() -> nn.Module:
    """Functions with a gap around zero: no NaN passes them, zero does."""
    return _Activated(lambda y: F.hardshrink(y, 0.1) + F.softshrink(y, 0.1) + F.threshold(y, 0.2, 0.0))


@case(X, kill=DEAD, kept=ZERO)
def SignsAndRests() -> nn.Module:
    """Signs, remainders, and numbers made whole."""
    return _Activated(lambda y: y.sign() * y.frac() + torch.remainder(y, 0.7) + torch.fmod(y, 0.3) + y // 0.5)


@case(X, kill=DEAD, kept=ZERO)
def MaskedWithZero() -> nn.Module:
    """Whatever the mask says, zero stays zero where it is masked with zero."""
    return _Activated(lambda y: y.masked_fill(y < y.mean((2, 3), keepdim=True), 0.0) + torch.where(y > 0.1, y, 0.0 * y))


@case(X, kill=DEAD, kept={"a.weight": (8, 3, 3, 3), "b.weight": (4, 8, 3, 3)}, smaller=False)
def MaskedWithOne() -> nn.Module:
    """A zero that a mask of the image turns into one is no constant."""
    return _Activated(lambda y: y.masked_fill(y.mean((1, 2), keepdim=True) < 0, 1.0))


@case(X, kill=DEAD, kept={"a.weight": (6, 3, 3, 3)})
def PowerOfZero() -> nn.Module:
    """`x ** 0` is one for any x: each dead channel is the constant one, and they merge."""
    return _Activated(lambda y: y + (y * 0.0) ** 0)


class _Smooth(torch.autograd.Function):
    """Two sigmoids, with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(scale * x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * grad * torch.sigmoid(x), None


@case(X, kill=DEAD, kept=ZERO)
class OwnFunction(nn.Module):
    """An activation written as `autograd.Function`, kept on the module as it is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 4)
        self.apply_smooth = _Smooth.apply

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.apply_smooth(self.a(x), 1.5))


class _Centred(torch.autograd.Function):
    """Looks like an activation, and measures channels together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@case(X, kill=DEAD, kept={"a.weight": (8, 3, 3, 3)}, pins=("no channel rule",), smaller=False)
def OwnFunctionOverChannels() -> nn.Module:
    """An `autograd.Function` that is not element-wise is no activation."""
    return _Activated(_Centred.apply)


@case(
    X,
    kill={"a": (0, 1), "b": (0, 1), "weigh": (0, 1, 8, 9)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (6, 3, 5, 5), "weigh.weight": (12, 6, 1, 1), "c.weight": (4, 6, 1, 1)},
)
class BranchesWeighed(nn.Module):
    """A softmax over stacked branches weighs each channel against its twin alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(3, 8, 5)
        self.weigh, self.c = conv(8, 16, 1), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.a(x), self.b(x)], 1)
        weights = self.weigh(both.sum(1).mean((2, 3), keepdim=True)).view(x.shape[0], 2, -1, 1, 1).softmax(1)
        return self.c((both * weights).sum(1))


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "w": (4, 5)})
class SummedByEinsum(nn.Module):
    """`einsum("nchw,kc->nk")` sums over space as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w = conv(3, 8), nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kc->nk", self.a(x).relu(), self.w)


@case(X, kill=DEAD, kept={"a.weight": (6, 3, 3, 3), "w": (6, 4)})
class ConstantsSummedByEinsum(nn.Module):
    """A constant that einsum sums over space counts as often as the image is large: constants merge into one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.w = conv(3, 8), nn.BatchNorm2d(8), nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ck,nchw->kn", self.w, self.norm(self.a(x)).sigmoid()).T
