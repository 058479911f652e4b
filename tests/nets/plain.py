"""Tensors and numbers that depend on no activation: made in forward, or computed from sizes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import case, conv, zero

X = (2, 3, 8, 8)
DEAD = {"a": (0, 1, 5)}


class _Read(nn.Module):
    """Filters of `a` die; `b` reads what `between` makes of them."""

    more = 0

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8 + self.more, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.between(self.a(x).relu())).relu())

    def between(self, y: Tensor) -> Tensor:
        raise NotImplementedError


def _coordinates(y: Tensor) -> tuple[Tensor, Tensor]:
    n, _, h, w = y.shape
    across = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(n, 1, h, w)
    down = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
    return across, down


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 7, 3, 3)})
class Coordinates(_Read):
    """Coordinates beside the channels, cast like them; both are read, so both stay."""

    more = 2

    def between(self, y: Tensor) -> Tensor:
        across, down = _coordinates(y)
        return torch.cat([y, across.type_as(y), down.to(y)], 1)


@case(X, kill=DEAD, unread={"b": (8,)}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
class UnreadCoordinate(_Read):
    """Of two coordinates in one tensor one is read by nothing: it goes."""

    more = 2

    def between(self, y: Tensor) -> Tensor:
        return torch.cat([y, torch.cat(_coordinates(y), 1).to(y.dtype)], dim=1)


@case(X, kill=DEAD, unread={"b": (0, 1)}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class UnreadCoordinatesFirst(_Read):
    """All of the coordinates are read by nothing, and they come first: their tensor goes."""

    more = 2

    def between(self, y: Tensor) -> Tensor:
        across, down = _coordinates(y)
        return torch.cat([torch.cat([across, down], 1).to(y), y], 1)


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
class ConstantChannelsMade(_Read):
    """Channels that forward makes of one number are constants: behind zero padding they merge into one."""

    more = 2

    def between(self, y: Tensor) -> Tensor:
        return torch.cat([y, torch.full((y.shape[0], 2, *y.shape[2:]), 0.5, dtype=y.dtype)], 1)


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
class ConstantFromASize(_Read):
    """A channel as large as the image is wide is the same all over this image, and another in the next."""

    more = 1

    def between(self, y: Tensor) -> Tensor:
        return torch.cat([y, y.new_full((y.shape[0], 1, *y.shape[2:]), 0.1) * y.shape[3]], 1)


@case(X, kill={"a": (0, 1)}, damage=lambda net: zero(net.c.weight, 2), kept={"b.weight": (5, 6, 3, 3)})
class DividedByASize(_Read):
    """A zero stays zero when it is scaled by the image's size; other constants do not stay what they are."""

    def between(self, y: Tensor) -> Tensor:
        return y * (1.0 / y.shape[2])


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (8, 3, 3, 3), "b.weight": (5, 8, 3, 3)}, smaller=False)
class ShiftedByASize(_Read):
    """Zero plus the image's size is no constant."""

    def between(self, y: Tensor) -> Tensor:
        return y + y.shape[2] / 8


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class ResizedToNumbers(_Read):
    """Resized to a height and width that were taken out of a shape one by one, then pooled likewise."""

    def between(self, y: Tensor) -> Tensor:
        h, w = y.shape[2], y.shape[3]
        y = F.interpolate(y, size=(2 * h, 2 * w), mode="bilinear", align_corners=False)
        return F.adaptive_max_pool2d(F.max_pool2d(y, (h // 2, w // 2)), (h, w))


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class ShapedLikeAnother(_Read):
    """What is only taken as a pattern gives its shape, and no labels of its own."""

    def between(self, y: Tensor) -> Tensor:
        ones = torch.full_like(y[:, :1], 0.5).expand_as(y)
        return (y * ones).view_as(y) + torch.zeros_like(y)


@case((2, 8), kill={"a": (1, 2)}, kept={"a.weight": (4, 8), "b.weight": (3, 4)})
class PooledOverItsWholeLength(nn.Module):
    """A pool as long as the text: `F.max_pool1d(y, y.size(2))`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).unsqueeze(2).expand(-1, -1, 4).relu()
        return self.b(F.max_pool1d(y, y.size(2)).squeeze(2))


class _Same(nn.Conv2d):
    """A convolution that pads by what its own weight says of its size."""

    def forward(self, x: Tensor) -> Tensor:
        high, wide = self.weight.shape[-2:]
        x = F.pad(x, [wide // 2, wide // 2, high // 2, self.weight.size(2) // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class AskedForItsKernelSize(nn.Module):
    """A weight asked for its kernel size is not asked for its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), _Same(8, 5, 3, bias=False), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


def _without_last_column(net: Any) -> None:
    net.b.weight[..., 2] = 0


@case(X, kill=DEAD, damage=_without_last_column, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
def AskedForAKernelSizeThatCouldBeCropped() -> nn.Module:
    """A kernel whose size is asked for is not cropped: the answer would change."""
    return AskedForItsKernelSize()


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class AskedForItsChannels(nn.Module):
    """A shape that follows the number of a weight's channels is asked anew when they are fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu().flatten(2).view(x.shape[0], self.a.weight.shape[0], *x.shape[2:])
        return self.c(self.b(y).relu())


@case(X, kill=DEAD, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class ScaledByItsChannels(nn.Module):
    """A scale made from the number of a weight's channels stays what it was when they are fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu() / self.a.weight.shape[0]).relu())
