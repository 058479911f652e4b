"""Dead channels that are constants: where they come from, what they pass through, what their readers do."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv, named, zero

X = (2, 3, 12, 12)
DEAD = (0, 3, 4)


@case(X, kill={"a.0": DEAD}, kept={"a.0.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
def ShiftAtZeroPadding() -> nn.Module:
    """A norm's shift makes dead channels constants, which zero padding makes patterns: three merge into one."""
    return named(a=block(3, 8), b=conv(8, 5))


@case(X, kill={"a.0": (3,)}, unread={"c": (0,)},
      kept={"a.0.weight": (8, 3, 3, 3), "b.weight": (4, 8, 3, 3), "c.weight": (4, 4, 1, 1)})  # fmt: skip
def OneConstantAtZeroPadding() -> nn.Module:
    """A single constant read through zero padding has nothing to merge into: it stays."""
    return named(a=block(3, 8), b=conv(8, 5), c=conv(5, 4, 1))


def _below_zero(net: Any) -> None:
    norm = net.a[1]
    norm.bias[list(DEAD)] -= norm.bias[list(DEAD)] + 9


@case(X, kill={"a.0": DEAD}, damage=_below_zero, kept={"a.0.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
def ConstantsBelowZero() -> nn.Module:
    """Constants below zero are zero after a ReLU: nothing to fold, padding or not."""
    return named(a=block(3, 8), b=conv(8, 5))


@case(
    X, kill={"a.0": DEAD}, kept={"a.0.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3), "b.bias": (5,)}, made=("b.bias",)
)
def FoldWithoutBias() -> nn.Module:
    """A reader without padding folds constants into a bias that it did not have."""
    return named(a=block(3, 8), b=conv(8, 5, padding=0), c=nn.ReLU())


@case(X, kill={"a.0": DEAD}, kept={"b.weight": (5, 6, 3, 3), "c.weight": (4, 6, 1, 1)})
class TwoReaders(nn.Module):
    """One reader pads and merges, the other does not and folds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), conv(8, 5), conv(8, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.a(x)
        return self.b(x), self.c(x)


@case(X, kill={"a.0": DEAD}, kept={"a.0.weight": (5, 3, 3, 3), "b.weight": (5, 5, 1, 1)})
def ConstantsThroughMaxPool() -> nn.Module:
    """A padded max pool keeps constants: it pads with minus infinity."""
    return named(a=block(3, 8), pool=nn.MaxPool2d(3, 2, 1), b=conv(8, 5, 1))


@case(X, kill={"a.0": DEAD}, kept={"a.0.weight": (5, 3, 3, 3), "b.weight": (5, 5, 1, 1)})
def ConstantsThroughAvgPool() -> nn.Module:
    """An average pool without padding keeps constants."""
    return named(a=block(3, 8), pool=nn.AvgPool2d(2), b=conv(8, 5, 1))


@case(X, kill={"a.0": DEAD}, kept={"a.0.weight": (5, 3, 3, 3), "b.weight": (5, 5, 1, 1)})
def ConstantsThroughUncountedPool() -> nn.Module:
    """A padded average pool that does not count its padding keeps constants."""
    return named(a=block(3, 8), pool=nn.AvgPool2d(3, 1, 1, count_include_pad=False), b=conv(8, 5, 1))


@case(X, kill={"a.0": DEAD, "b": (0,)}, kept={"c.weight": (4, 4, 1, 1)})
def ConstantsThroughCountedPool() -> nn.Module:
    """A padded average pool that counts its padding makes constants fade at the border."""
    return named(a=block(3, 8), pool=nn.AvgPool2d(3, 1, 1), b=conv(8, 5, 1), c=conv(5, 4, 1))


@case(X, kill={"a": DEAD}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
def ZerosThroughCountedPool() -> nn.Module:
    """Zeros do not fade."""
    return named(a=conv(3, 8), pool=nn.AvgPool2d(3, 2, 1, ceil_mode=True), b=conv(8, 5))


@case(X, kill={"a.0": DEAD}, kept={"a.0.weight": (5, 3, 3, 3), "fc.weight": (4, 5)})
def ConstantsThroughActivations() -> nn.Module:
    """Constants come out of any activation as exact numbers, of global pools, of dropout."""
    norm = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.Hardswish())
    return named(a=norm, b=nn.SiLU(), c=nn.Dropout2d(0.3), d=nn.AdaptiveAvgPool2d(1), e=nn.Flatten(), f=nn.ELU(),
                 g=nn.Dropout(), fc=nn.Linear(8, 4))  # fmt: skip


@case(X, kill={"a": DEAD}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 3, 3)})
def SigmoidOfZero() -> nn.Module:
    """A zero comes out of a sigmoid as one half."""
    return named(a=conv(3, 8), act=nn.Sigmoid(), b=conv(8, 5))


@case(X, kill={"a": DEAD, "c": (1,)}, kept={"d.weight": (4, 4, 1, 1)})
class SoftmaxOverSpace(nn.Module):
    """A softmax over space makes zeros one over the image's size: no constant, it must hold at other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 8), conv(8, 5, 1), conv(5, 5, 1), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.d(self.c(self.b(x.flatten(2).softmax(-1).view_as(x))))


@case(X, kill={"a.0": DEAD, "c": (1,)}, kept={"d.weight": (4, 4)})
class SumOverSpace(nn.Module):
    """A sum over space makes a constant the image's size times it: it must hold at other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = block(3, 8), nn.Linear(8, 5), nn.Linear(5, 5, bias=False), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.b(self.a(x).sum(dim=(2, 3)))))


@case(
    X,
    unread={"c": (1, 2, 3, 4, 5, 6, 7), "b": (0, 1, 2, 3, 4, 5, 6)},
    kept={"a.weight": (1, 3, 3, 3), "b.weight": (1, 1, 3, 3), "c.weight": (5, 1, 1, 1)},
)
def ChainOfUnread() -> nn.Module:
    """Channels that nobody reads, whose sources are read by nobody else, back to the first layer."""
    return named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 8), act2=nn.ReLU(), c=conv(8, 5, 1))


@case(
    X,
    kill={"last.0": tuple(range(8))},
    kept={"first.0.weight": None, "first.1.running_mean": None, "last.0.weight": None, "last.1.weight": None,
          "a.weight": (8, 3, 3, 3)},
)  # fmt: skip
class DeadBranch(nn.Module):
    """A residual branch that is constant as a whole: its layers go, its constant stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.first, self.last, self.c = conv(3, 8), block(8, 8), block(8, 8), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(x + self.last(self.first(x)))


@case(
    X,
    kill={"last": (0, 1, 2, 3)},
    kept={"first.0.weight": None, "last.weight": None, "c.weight": (5, 4, 3, 3)},
)
class DeadBranchOfConcat(nn.Module):
    """A branch of a concatenation that is zero as a whole: it goes, and so does its place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.first, self.last, self.c = conv(3, 4), block(3, 8), conv(8, 4), conv(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([self.a(x), self.last(self.first(x))], 1))


@case(X, kill={"excite": tuple(range(8))}, kept={"squeeze.weight": None, "excite.weight": None})
class DeadGate(nn.Module):
    """An excitation that is constant as a whole: the scale stays as a number for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = conv(3, 8), conv(8, 5)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))) * x)


@case(
    X,
    kill={"a": (0,), "excite": tuple(range(1, 8))},
    kept={"a.weight": (7, 3, 3, 3), "squeeze.weight": None, "excite.weight": None},
)
class DeadGateOfTheLiving(DeadGate):
    """An excitation that is constant for all channels that live: what it is for a dead one does not count."""


@case(X, damage=lambda net: zero(net.norm.weight, 1, 2), kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1)})
def ScaleOfZero() -> nn.Module:
    """A norm with a scale of zero: its channel is its shift, and the filter before it is of no use."""
    return named(a=conv(3, 8), norm=nn.BatchNorm2d(8), b=conv(8, 5, 1))


@case(X, damage=lambda net: zero(net.scale, 1, 2), kept={"a.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1)})
class FactorOfZero(nn.Module):
    """A bare parameter with zeros multiplies channels: their filters are of no use."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.scale = conv(3, 8), conv(8, 5, 1), nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.scale * self.a(x))


@case(X, kill={"a": (0, 1), "b": (2,)}, kept={"c.weight": (4, 4, 1, 1)})
class Swallowing(nn.Module):
    """Operations that answer the same for NaN as for some number: comparisons, sign, where, nan_to_num, powers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.where(x > 0.1, x, 0.5 * x) + x.sign() + (x * x).pow(0.5).nan_to_num() + (x > 0).to(x.dtype)
        return self.c(self.b(torch.fmax(x, x * 0) + x**0))


@case(X, kill={"a.0": DEAD, "b": (0,)}, kept={"c.weight": (4, 4, 1, 1)})
class PadThenConvolve(nn.Module):
    """Zero padding written apart from the convolution (as TensorFlow's "same"): constants fade there too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), conv(8, 5, padding=0, stride=2), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(F.pad(self.a(x), (0, 1, 0, 1))))


@case(X, kill={"a": DEAD}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3)})
def PadThenConvolveZeros() -> nn.Module:
    """Zeros do not change where zeros are put around them; nor do reflections of constants."""
    return named(a=conv(3, 8), pad=nn.ZeroPad2d(1), mirror=nn.ReflectionPad2d(2), b=conv(8, 5, padding=0))


@case(X, kill={"a.0": DEAD}, kept={"a.0.weight": (5, 3, 3, 3), "b.weight": (5, 5, 1, 1)})
def ConstantsThroughResizing() -> nn.Module:
    """Constants come out of resizing as they are."""
    up = nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True)
    return named(a=block(3, 8), up=up, down=nn.AdaptiveMaxPool2d(5), b=conv(8, 5, 1))


@case(
    X, kill={"a": DEAD, "b": (1,)}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 1, 1), "c.weight": (4, 5, 1, 1)}
)
def BiasOfDeadFilters() -> nn.Module:
    """A dead filter's bias is a constant, not zero."""
    return named(a=conv(3, 8, bias=True), act=nn.Tanh(), b=conv(8, 6, 1, bias=True), c=conv(6, 4, 1))
