"""Residual sums: a stream that branches write and read; a channel stays while any of them needs it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, zero

X = (2, 3, 8, 8)


@case(
    X,
    kill={"a.0": (0, 1, 2), "b.0": (1, 2, 3)},
    # Channels 1 and 2 are written by nobody; b reads a's constant channels 1 and 2 through channel 0, which stays.
    kept={"a.0.weight": (6, 3, 3, 3), "b.0.weight": (6, 6, 3, 3), "b.1.running_var": (6,), "c.weight": (4, 6, 1, 1)},
)
class ResidualAdd(nn.Module):
    """A residual sum: a channel stays while any of its writers is alive."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), block(8, 8), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(F.relu(x + self.b(x)))


@case(
    X,
    kill={"b.0": (0, 5)},
    # c is padded and reads two constants: one stays for both.
    kept={"a.0.weight": (8, 3, 3, 3), "b.0.weight": (7, 8, 3, 3), "c.weight": (8, 7, 3, 3), "d.weight": (4, 8, 1, 1)},
)
class ResidualBottleneck(nn.Module):
    """Dead channels inside a residual branch, none on the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = block(3, 8), block(8, 8), conv(8, 8), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.d(x + self.c(self.b(x)))


@case(
    (2, 3, 12, 12),
    kill={"a": (0, 1, 2, 3), "b": (0, 1, 4, 5, 6, 7, 8, 9, 10, 11), "c": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)},
    kept={"a.weight": (10, 3, 3, 3), "b.weight": (10, 10, 3, 3), "c.weight": (10, 10, 3, 3), "d.weight": (4, 10, 1, 1)},
)
class ResidualStream(nn.Module):
    """A stream that each branch writes only a part of: `union` keeps every part in every branch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 12), conv(12, 12), conv(12, 12), conv(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x += F.relu(self.b(x))
        x += F.relu(self.c(x))
        return self.d(x)


@case(
    X,
    kill={"a": (1,), "b": (0, 2)},
    kept={
        "a.weight": (7, 3, 3, 3),
        "b.weight": (6, 7, 3, 3),
        "c.weight": (5, 6, 1, 1),
        "shortcut.weight": (6, 3, 1, 1),
    },
    damage=lambda net: zero(net.shortcut.weight, 0, 2),
)
class ResidualProjection(nn.Module):
    """A residual sum with a strided convolution in the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8, stride=2), conv(8, 5, 1)
        self.shortcut = conv(3, 8, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x))) + self.shortcut(x)))


@case(
    X,
    kill={"a": (1, 2), "b": (2, 3)},
    kept={"a.weight": (7, 3, 3, 3), "b.weight": (7, 7, 3, 3), "c.weight": (5, 7, 1, 1)},
)
class PreActivation(nn.Module):
    """Norm and activation before the convolution: a stream of zeros that becomes constants on the way out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8), conv(8, 5, 1)
        self.norm, self.last = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + self.b(F.relu(self.norm(x)))
        return self.c(F.relu(self.last(x)))
