"""Layers and parameters that are used more than once, or under several names."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named

X = (2, 3, 8, 8)


@case(
    X,
    kill={"a": (1, 2, 5), "b": (1, 2)},
    # b reads what a and what b itself makes: channel 5 lives in b, so it stays in a.
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (6, 6, 3, 3), "c.weight": (5, 6, 3, 3)},
)
class ConvolutionTwice(nn.Module):
    """A convolution called twice in a row: it reads its own output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        for _ in range(2):
            x = F.relu(self.b(x))
        return self.c(x)


@case(
    (2, 3, 12, 12),
    kill={"a": (0, 1), "b": (1, 2), "head": (3,)},
    kept={"a.weight": (7, 3, 3, 3), "b.weight": (7, 7, 3, 3), "head.weight": (5, 7, 3, 3), "out.weight": (4, 5, 1, 1)},
)
class SharedHead(nn.Module):
    """One head on two levels of a pyramid (RetinaNet): both levels keep the same channels; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head, self.out = conv(3, 8), conv(8, 8, stride=2), conv(8, 6), conv(6, 4, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = F.relu(self.a(x))
        levels = [first, F.relu(self.b(first))]
        return [self.out(F.relu(self.head(level))) for level in levels]


@case(
    X, kill={"a": (0, 1), "b": (1, 2)}, kept={"a.weight": (7, 3, 3, 3), "norm.weight": (7,), "c.weight": (5, 14, 1, 1)}
)
class SharedNorm(nn.Module):
    """One norm after two convolutions: both keep the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.c = conv(3, 8), conv(3, 8), nn.BatchNorm2d(8), conv(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.norm(self.a(x)), self.norm(self.b(x)).relu()], 1))


@case(
    X,
    kill={"a": (0, 3), "b": (1,)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (7, 6, 3, 3), "d.weight": (5, 7, 1, 1)},
)
class TwoNames(nn.Module):
    """One convolution registered under two names, called by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.d = conv(3, 8), conv(8, 8), conv(8, 5, 1)
        self.c = self.b

    def forward(self, x: Tensor) -> Tensor:
        return self.d(F.relu(self.c(self.a(x))))


def _tied() -> nn.Module:
    net: Any = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 8), act2=nn.ReLU(), c=conv(8, 8), d=conv(8, 5, 1))
    net.c.weight = net.b.weight
    return net


@case(
    X,
    kill={"a": (1, 2, 5), "b": (1, 2)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (6, 6, 3, 3), "d.weight": (5, 6, 1, 1)},
)
def TiedWeights() -> nn.Module:
    """Two convolutions with one weight: cut once, for both."""
    return _tied()


@case(X, kill={"a": (0, 1)}, kept={"weight": (8, 16)}, smaller=False)
class TiedTransposed(nn.Module):
    """An autoencoder whose decoder is its encoder's transposed weight: a weight that is used in two ways stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight = conv(3, 16), nn.Parameter(torch.randn(8, 16))

    def forward(self, x: Tensor) -> Tensor:
        code = F.linear(self.a(x).mean((2, 3)), self.weight)
        return F.linear(torch.tanh(code), self.weight.t())


@case(
    X,
    kill={"a.0": (0, 1), "b.0": (0, 2)},
    kept={"a.0.weight": (8, 3, 3, 3), "b.0.weight": (8, 3, 3, 3), "d.weight": (4, 4, 1, 1)},
    unread={"d": (0,)},
)
class SharedReader(nn.Module):
    """A convolution reads two tensors whose dead channels are different constants: no one bias fits both calls."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = block(3, 8), block(3, 8), conv(8, 5, 1), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.a(x)) + self.c(self.b(x)))


@case(
    X,
    kill={"a": (0, 1, 2)},
    unread={"b": (3,), "c": (3, 4)},
    kept={"a.weight": (4, 3, 3, 3), "b.weight": (5, 4, 1, 1), "c.weight": (5, 4, 1, 1)},
)
class FanOut(nn.Module):
    """A tensor read by two layers: a channel is of no use only when neither reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5, 1), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x) - self.c(x)


@case(X, kill={"first.a": (0, 1), "first.b": (2,)}, kept={"first.a.weight": (6, 3, 3, 3), "c.weight": (4, 10, 1, 1)})
class SharedSubmodel(nn.Module):
    """A whole submodel used on two inputs made from one (a Siamese network)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.c = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 6)), conv(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.first(x), self.first(x.flip(-1))], 1))


@case(
    X,
    kill={"a.0": (0, 1)},
    kept={"a.0.weight": (6, 3, 3, 3), "c.weight": (5, 6, 1, 1), "c.bias": (5,)},
    made=("c.bias",),
)
class SharedReaderOfSame(nn.Module):
    """A convolution without bias reads the same constants in two calls: they are folded once, for both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = block(3, 8), conv(8, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.a(x)
        return self.c(x), self.c(x.flip(-1))
