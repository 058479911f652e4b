"""Writes in place that other names see: what was proven of those is proven no more."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import case, conv

X = (2, 3, 8, 8)
DEAD = {"a": (0, 1), "b": (2,)}
KEPT = {"a.weight": (8, 3, 3, 3), "b.weight": (4, 8, 3, 3), "c.weight": (4, 4, 1, 1)}


class _Written(nn.Module):
    """A dead filter behind a norm is a constant until `change` has had its way with the tensor."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = conv(3, 8), nn.BatchNorm2d(8), conv(8, 5), conv(5, 4, 1)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.change(self.norm(self.a(x)))).relu())


def _on_view(change: Callable[[Tensor], object]) -> Callable[[Tensor], Tensor]:
    """Return a function that changes a view of a tensor, and returns the tensor."""

    def changed(x: Tensor) -> Tensor:
        change(x[:, :, 1:])
        return x

    return changed


@case(X, kill=DEAD, kept=KEPT)
def RemainderOnAView() -> nn.Module:
    """`y %= 0.7` where y is a view."""
    return _Written(_on_view(lambda y: operator.imod(y, 0.7)))


@case(X, kill=DEAD, kept=KEPT)
def FloorOnAView() -> nn.Module:
    """`y //= 0.2` where y is a view."""
    return _Written(_on_view(lambda y: operator.ifloordiv(y, 0.2)))


@case(X, kill=DEAD, kept=KEPT)
def PowerOnAView() -> nn.Module:
    """`y **= 2` where y is a view."""
    return _Written(_on_view(lambda y: operator.ipow(y, 2)))


@case(X, kill=DEAD, kept=KEPT)
def ProductOfMatricesOnAView() -> nn.Module:
    """`y @= w` where y is a view."""
    return _Written(_on_view(lambda y: operator.imatmul(y, torch.ones(y.shape[-1], y.shape[-1], dtype=y.dtype).triu())))


@case(X, kill=DEAD, kept=KEPT)
def BitsOnAView() -> nn.Module:
    """`y ^= z` on the bits of a view."""

    def flip(x: Tensor) -> Tensor:
        bits = x.view(torch.int16)
        bits ^= 8
        return x

    return _Written(flip)


@case(X, kill=DEAD, kept=KEPT)
def ShiftOnAView() -> nn.Module:
    """`y >>= 1` on the bits of a view."""

    def shift(x: Tensor) -> Tensor:
        bits = x.view(torch.int16)
        bits >>= 1
        return x

    return _Written(shift)


@case(X, kill=DEAD, kept=KEPT)
def MethodOfTheOperator() -> nn.Module:
    """`y.__imod__(0.7)`, written as a method."""
    return _Written(_on_view(lambda y: y.__imod__(0.7)))


@case(X, kill=DEAD, kept=KEPT)
def InplaceByItsPlace() -> nn.Module:
    """`F.threshold(y, 0.1, 5.0, True)`: told by the place of an argument that it writes."""
    return _Written(_on_view(lambda y: F.threshold(y, 0.1, 5.0, True)))


@case(X, kill=DEAD, kept=KEPT)
def WrittenThroughData() -> nn.Module:
    """`x.data.add_(1)` reaches x."""

    def change(x: Tensor) -> Tensor:
        x.data.add_(1.0)
        return x

    return _Written(change)


@case(X, kill=DEAD, kept={"a.weight": (7, 3, 3, 3), "b.weight": (4, 7, 3, 3)})
def WrittenUnderAnotherName() -> nn.Module:
    """`y = +x` is x itself, and so is what is written into y; the constants are known all the same, and merged."""

    def change(x: Tensor) -> Tensor:
        y = +x
        y.add_(1.0)
        return x

    return _Written(change)


@case(X, kill=DEAD, kept=KEPT)
def WrittenThroughExpansion() -> nn.Module:
    """`x.expand_as(x)` is a view of x."""

    def change(x: Tensor) -> Tensor:
        x.expand_as(x).add_(1.0)
        return x

    return _Written(change)


@case(X, kill=DEAD, kept=KEPT)
def WrittenThroughUnknownView() -> nn.Module:
    """A view that no rule knows (`as_strided`) is still a view."""

    def change(x: Tensor) -> Tensor:
        x.as_strided((2, 8, 8, 8), (512, 64, 8, 1)).mul_(0.5)
        return x

    return _Written(change)


@case(X, kill=DEAD, kept={"a.weight": (8, 3, 3, 3)})
class DataWrittenIntoAFreshTensor(nn.Module):
    """A tensor made in forward takes values of activations: it is no constant, nor what is computed from it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = conv(3, 8), nn.BatchNorm2d(8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.a(x))
        kept = torch.zeros(1, 1, 1, 1, dtype=x.dtype)
        kept[0, 0, 0, 0] = x.mean()
        return self.c(self.b(y + 2 * kept).relu())
