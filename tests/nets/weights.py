"""Weights that are computed from parameters alone: the same for every input, so computed once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named

X = (2, 3, 8, 8)


class Standardised(nn.Conv2d):
    """A convolution that standardises each of its filters; written in place from the second step on."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight /= weight.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def _zero_alike(*rows: int) -> Any:
    """Make the weights of some filters of "a" equal: standardised they are zero, as they are not before."""

    def damage(net: Any) -> None:
        net.a.weight[list(rows)] = 0.25

    return damage


@case(X, damage=_zero_alike(0, 3, 5), kept={"a.weight": (5, 3, 3, 3), "b.weight": (4, 5, 3, 3)})
def StandardisedWeights() -> nn.Module:
    """Filters whose weights are all equal are zero once standardised, although no weight is."""
    return named(a=Standardised(3, 8, 3, padding=1, bias=False), relu=nn.ReLU(), b=Standardised(8, 4, 3))


@case(X, kill={"a": (1, 2), "part": (0, 1, 6)},
      kept={"a.weight": (6, 3, 3, 3), "part.weight": (4, 6, 3, 3), "wide.weight": (8, 4, 1, 1)})  # fmt: skip
class SlicedWeights(nn.Module):
    """Layers that are never called: of one some filters are read, of the other some channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.part, self.wide = conv(3, 8), conv(8, 12), nn.Conv2d(10, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(F.relu(self.a(x)), self.part.weight[:6], padding=self.part.weight.shape[-1] // 2)
        return F.conv2d(F.relu(x), self.wide.weight[:, 2:8], self.wide.bias)


@case(X, kill={"a": (0, 4)}, kept={"a.weight": (6, 3, 3, 3), "mixed": None,
      "mixed_computed": (5, 6, 3, 3)}, made=("mixed_computed",))  # fmt: skip
class AveragedWeights(nn.Module):
    """Three experts are mixed by a softmax over learned numbers before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.mixed, self.share = (
            conv(3, 8),
            nn.Parameter(torch.randn(3, 5, 8, 3, 3)),
            nn.Parameter(torch.randn(3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.mixed * self.share.softmax(0).view(-1, 1, 1, 1, 1)).sum(0)
        return F.conv2d(F.relu(self.a(x)), weight)


class _Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 2, self.bias - 1)


class _Off(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, 1 + self.weight, self.bias, False, 0.1, self.eps)


class _Up(nn.ConvTranspose2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight / self.weight.norm(), self.bias, self.stride)


@case(X, kill={"a": (0, 1), "up": (2, 3, 4), "fc": (0,)},
      kept={"a.weight": (7, 3, 3, 3), "n.weight": (7,), "n.running_mean": (7,), "up.weight": (7, 3, 2, 2),
            "fc.weight": (5, 3), "out.weight": (2, 5)})  # fmt: skip
def LayersWithTheirOwnForward() -> nn.Module:
    """Subclasses of torch's layers that compute with their weights; behind the norm two constants become one."""
    layers = {"a": conv(3, 8), "n": _Off(8), "relu": nn.ReLU(), "up": _Up(8, 6, 2, 2), "pool": nn.AdaptiveAvgPool2d(1)}
    return named(**layers, flat=nn.Flatten(), fc=_Twice(6, 6), tanh=nn.Tanh(), out=nn.Linear(6, 2))


@case(X, kill={"a.0": (0, 3)}, kept={"a.0.weight": (6, 3, 3, 3), "weight": (6, 4)}, other=((3, 3, 9, 7),))
class TransposedMatrix(nn.Module):
    """A classifier that multiplies by the transpose of its matrix, kept as (outputs, inputs)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight = block(3, 8), nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x).mean((2, 3)) @ self.weight.t()


def _zero_positions(*channels: int) -> Any:
    def damage(net: Any) -> None:
        net.positions[..., list(channels)] = 0

    return damage


@case(
    X,
    kill={"a": (0, 1, 5)},
    damage=_zero_positions(0, 1, 5),
    kept={"a.weight": (5, 3, 3, 3), "positions": (1, 17, 5), "b.weight": (4, 5)},
)
class ResizedPositions(nn.Module):
    """A table of positions, one row of it for a token, is resized to the image: channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), nn.Linear(8, 4)
        self.positions = nn.Parameter(torch.randn(1, 17, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        first, rest = self.positions[:, :1], self.positions[:, 1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
        rest = F.interpolate(rest, size=x.shape[2:], mode="bicubic", align_corners=False)
        table = torch.cat([first, rest.flatten(2).transpose(1, 2)], 1)
        x = x.flatten(2).transpose(1, 2)
        return self.b(torch.cat([x.mean(1, keepdim=True), x], 1) + table)


@case(X, kill={"make": (4, 5)}, kept={"make.weight": (6, 3), "q": None, "v": None, "b.weight": (4, 2)})
class BiasInParts(nn.Module):
    """The bias of a linear layer is put together: keys have none, which a buffer of zeros says."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.b = nn.Linear(3, 12, bias=False), nn.Linear(4, 4)
        self.q, self.v = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.register_buffer("k", torch.zeros(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.linear(x, self.make.weight, torch.cat([self.q, self.k, self.v]))
        q, k, v = x.chunk(3, -1)
        return self.b(q * k.relu() * v)
