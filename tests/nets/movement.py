"""Channels that move: split, shuffled, sliced, padded, flattened, turned into tokens, with sizes written by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named

X = (2, 3, 8, 8)


@case(X, kill={"a": (0, 1, 5)}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
class ChunkSwapCat(nn.Module):
    """Two halves change places; more dies in one than in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.chunk(self.a(x), 2, dim=1)
        return self.b(torch.cat([second, first], 1))


class Shuffle(nn.Module):
    """Channel shuffle by view, transpose and reshape, its sizes computed from the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
        return self.b(x.view(n, -1, h, w))


@case(X, kill={"a": (0, 5)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
def ShuffleEven() -> nn.Module:
    """A channel shuffle that loses as many channels from each group."""
    return Shuffle()


@case(X, kill={"a": (0, 1, 2, 6)}, kept={"a.weight": (4, 3, 3, 3), "b.weight": (5, 4, 3, 3)})
def ShuffleUneven() -> nn.Module:
    """A channel shuffle that loses more channels from one group."""
    return Shuffle()


@case(X, kill={"a": (0, 1, 2, 6)}, kept={"a.weight": (4, 3, 3, 3), "b.weight": (5, 4, 1, 1)})
def ShuffleModule() -> nn.Module:
    """A channel shuffle by torch's own module."""
    return named(a=conv(3, 8), s=nn.ChannelShuffle(2), b=conv(8, 5, 1))


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNet v2: half passes by, half goes through layers, then both are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 8), conv(8, 5, 1)
        self.branch = nn.ModuleList([conv(4, 4, 1), conv(4, 4, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for layer in self.branch:
            left, right = x.chunk(2, dim=1)
            x = torch.cat((left, F.relu(layer(right))), dim=1)
            n, c, h, w = x.shape
            x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.last(x)


@case(X, kill={"stem": (0, 5), "branch.0": (1,), "branch.1": (2, 3)}, kept={"last.weight": (5, 4, 1, 1)})
def ShuffleUnits() -> nn.Module:
    """Units of ShuffleNet v2 in a row, with uneven halves."""
    return ShuffleUnit()


@case(X, kill={"a": (0, 4, 5)}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (4, 2, 3, 3), "c.weight": (4, 3, 3, 3)})
class SplitBySizes(nn.Module):
    """A split with two sizes written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(3, 4), conv(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.split(self.a(x), [3, 5], dim=1)
        return self.b(first) + self.c(second)


@case(X, kill={"a": (0, 1, 2, 7)}, kept={"a.weight": (4, 3, 3, 3), "b.weight": (4, 1, 1, 1), "c.weight": (5, 7, 1, 1)})
class SplitByWidth(nn.Module):
    """A split into pieces of a width written by hand (Res2Net): pieces lose unevenly, one passes through a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(4, 4, 1), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        pieces = self.a(x).split(4, 1)
        return self.c(torch.cat((self.b(pieces[0]), pieces[1]), 1))


@case(
    X,
    kill={"a": (1, 2), "b": (0, 3, 4)},
    kept={"a.weight": (2, 3, 3, 3), "b.weight": (5, 2, 3, 3), "c.weight": (5, 5, 1, 1)},
)
class PadShortcut(nn.Module):
    """CIFAR ResNet's option A: every second pixel, zero channels on both sides, added to a strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(4, 8, stride=2), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        return self.c(F.relu(self.b(x) + shortcut))


@case(X, kill={"a": (0, 2)}, kept={"a.weight": (4, 3, 3, 3), "b.weight": (5, 4, 3, 3)})
class PadWithZerosOnly(nn.Module):
    """Zero channels appended and read by nobody but a convolution: they need not be made."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 6), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.pad(self.a(x), (0, 0, 0, 0, 0, 2)))


@case(X, kill={"a": (0, 1, 2, 3, 5)}, kept={"a.weight": (12, 3, 3, 3), "b.weight": (5, 3, 3, 3)})
def PixelShuffle() -> nn.Module:
    """Four filters make one channel: it goes when all four are dead."""
    return named(a=conv(3, 16), shuffle=nn.PixelShuffle(2), b=conv(4, 5))


@case(X, other=((3, 3, 12, 10),), kill={"a": (1,)}, kept={"a.weight": (3, 3, 3, 3), "b.weight": (5, 12, 3, 3)})
def PixelUnshuffle() -> nn.Module:
    """One channel becomes four."""
    return named(a=conv(3, 4), shuffle=nn.PixelUnshuffle(2), b=conv(16, 5))


@case(X, kill={"a": (0, 1, 4)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 3, 3, 3)})
class SlicesAdded(nn.Module):
    """Two halves of one tensor are added: channel i and channel i + 4 live or die together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x[:, :4] + x[:, 4:])


@case(X, kill={"a": (0,)}, kept={"a.weight": (3, 3, 3, 3), "b.weight": (5, 3, 3, 3)})
class EverySecond(nn.Module):
    """Every second channel is read; the others are alive, and of no use."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)[:, ::2])


@case(X, kill={"a": (0, 3)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
class IndexedByBuffer(nn.Module):
    """Channels reordered by an index kept in a buffer, which must stay whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2, 7, 6, 5, 4]))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)[:, self.order])


@case(X, kill={"a": (0, 3)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 12, 3, 3)})
class RollFlipRepeat(nn.Module):
    """Channels rolled, flipped and repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.a(x), 2, dims=1)
        return self.b(x.repeat(1, 2, 1, 1).flip(1))


@case(X, kill={"a": (0, 3)}, kept={"b.weight": (5, 6, 3, 3)})
class UnbindStack(nn.Module):
    """Channels taken one by one into a list and stacked again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.stack(self.a(x).unbind(1)[::-1], dim=1))


@case(X, kill={"a": (0, 3)}, other=((3, 3, 12, 10),), kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 24, 1, 1)})
class Focus(nn.Module):
    """Space to depth by four strided slices and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        parts = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.b(torch.cat(parts, 1))


@case(X, kill={"a": (0, 1, 4)}, kept={"b.weight": (5, 2, 3, 3)})
class GatedHalves(nn.Module):
    """A gated linear unit over channels: a half of the channels gates the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.glu(self.a(x), dim=1))


@case(X, kill={"a.0": (4, 5, 6, 7)}, kept={"b.weight": (5, 4, 1, 1)})
class HalfConstantSlicesAdded(nn.Module):
    """Two halves of one tensor are added, one of them constant as a whole: at any image size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = block(3, 8), conv(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x[:, :4] + x[:, 4:])


@case(
    X,
    kill={"a": (0, 1), "b": (2,)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (4, 6, 3, 3), "token": (1, 4, 1, 1), "c.weight": (4, 4, 1, 1)},
    damage=lambda net: net.token[:, 2].zero_(),
)
class RepeatedInAList(nn.Module):
    """A list multiplied by the batch size: as many equal rows as there are images, whatever their number."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)
        self.token = nn.Parameter(torch.ones(1, 5, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return self.c(x * torch.cat([self.token] * x.size(0)))


@case(X, kill={"a": (0, 1), "b": (2,)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (4, 6, 3, 3), "strides": (3,)})
class FilledByABuffer(nn.Module):
    """A tensor made in the kind of an activation and filled with one number of a buffer, or with all of it."""

    strides: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)
        self.register_buffer("strides", torch.tensor([4.0, 8.0, 16.0]))
        self.register_buffer("step", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.a(x)))
        x = x * x.new_full((1, 1, x.shape[2], x.shape[3]), self.strides[1])
        return x + x.new_full((1,), self.step)
