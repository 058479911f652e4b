"""GroupNorm: a group of channels that are normalised together goes whole or not at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import case, conv, named

X = (2, 3, 8, 8)


@case(
    X,
    kill={"a": (0, 1, 4, 5, 6, 7), "b": (2,)},  # half of the first group, and the second
    kept={"a.weight": (4, 3, 3, 3), "norm.weight": (4,), "b.weight": (4, 4, 1, 1), "c.weight": (4, 4, 1, 1)},
    made=("b.bias",),
)
def GroupNorm() -> nn.Module:
    """A dead channel counts as long as its group lives; a group of constants goes."""
    return named(a=conv(3, 8), norm=nn.GroupNorm(2, 8), b=conv(8, 5, 1), c=conv(5, 4, 1))


@case(
    X,
    unread={"b": (0, 1, 3, 6, 7)},
    kept={"a.weight": (4, 3, 3, 3), "b.weight": (5, 4, 3, 3)},
)
def GroupNormUnread() -> nn.Module:
    """Nothing reads two of the groups, and half of a third."""
    return named(a=conv(3, 8), norm=nn.GroupNorm(4, 8, affine=False), act=nn.ReLU(), b=conv(8, 5), c=conv(5, 4, 1))


@case(
    X,
    kill={"a": (0, 1), "b": (2,)},
    unread={"b": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "scale": (6,), "b.weight": (4, 6, 3, 3), "c.weight": (4, 4, 1, 1)},
)
class FunctionalGroupNorm(nn.Module):
    """GroupNorm as a function on parameters, which is told the number of groups in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(F.group_norm(self.a(x), 4, self.scale, self.shift)))


@case(
    X,
    unread={"b": (0, 1, 2, 3), "c": (0, 1, 2, 3)},
    kept={"stem.weight": (8, 3, 3, 3), "a.weight": (8, 6, 1, 1), "b.weight": (6, 8, 3, 3), "c.weight": (4, 8, 1, 1)},
)
class GroupNormsOnAStream(nn.Module):
    """Norms with three and with six groups on one residual stream of twelve channels: what goes is a group of both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = conv(3, 12), nn.GroupNorm(3, 12)
        self.b, self.inner, self.a, self.second = conv(12, 6), nn.GroupNorm(3, 6), conv(6, 12, 1), nn.GroupNorm(6, 12)
        self.c = conv(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.stem(x)))
        return self.c(x + self.second(self.a(F.relu(self.inner(self.b(x))))))


@case(
    X,
    unread={"c": (0, 1, 2, 3, 8, 9)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (14, 3, 3, 3), "c.weight": (4, 20, 1, 1)},
)
class GroupNormOfAConcatenation(nn.Module):
    """A norm over two layers side by side, whose third group reaches into both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 10), conv(3, 14), conv(24, 4, 1)
        self.norm = nn.GroupNorm(6, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.norm(torch.cat([self.a(x), self.b(x)], 1))))


@case(
    X,
    unread={"c": (0, 1, 4, 5)},
    kept={
        "a.weight": (8, 3, 1, 1),
        "grouped.weight": (4, 4, 3, 3),
        "deep.weight": (4, 1, 3, 3),
        "c.weight": (4, 4, 1, 1),
    },
)
def GroupNormOfOtherGroups() -> nn.Module:
    """A grouped convolution with two groups, a depthwise one, and norms with four groups and with one for a channel."""
    return named(
        a=conv(3, 8, 1), n1=nn.GroupNorm(4, 8), grouped=conv(8, 8, groups=2), n2=nn.GroupNorm(4, 8), act=nn.ReLU(),
        deep=conv(8, 8, groups=8), n3=nn.GroupNorm(8, 8), c=conv(8, 4, 1),
    )  # fmt: skip


@case(
    X,
    unread={"c": (0, 1, 4, 5), "d": (0, 1, 2, 3)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (6, 3, 1, 1), "c.weight": (4, 6, 1, 1), "d.weight": (4, 6, 1, 1)},
)
class GroupNormCalledTwice(nn.Module):
    """One norm without a scale on the channels of two layers, and it has one number of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 8), conv(3, 8, 1), conv(8, 4, 1), conv(8, 4, 1)
        self.norm = nn.GroupNorm(4, 8, affine=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.c(self.norm(self.a(x))), self.d(self.norm(self.b(x)))
