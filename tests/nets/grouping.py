"""Grouped, depthwise and transposed convolutions: groups stay equal, filters lie along other axes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import block, case, conv

X = (2, 3, 8, 8)


@case(
    X,
    kill={"a": (0,), "b": (1, 2)},
    kept={"a.weight": (5, 3, 1, 1), "b.weight": (5, 1, 3, 3), "norm.weight": (5,), "c.weight": (5, 5, 1, 1)},
)
def Depthwise() -> nn.Module:
    """A depthwise convolution: its channel is its input's channel, dead if either filter is."""
    net = nn.Sequential()
    net.add_module("a", conv(3, 8, 1))
    net.add_module("b", conv(8, 8, groups=8))
    net.add_module("norm", nn.BatchNorm2d(8))
    net.add_module("act", nn.ReLU6())
    net.add_module("c", conv(8, 5, 1))
    return net


@case(
    X,
    kill={"0.0": (0,), "1.0": (1, 2)},
    # Channel 0 brings a constant, which the padded depthwise filter makes a pattern at the border.
    kept={"0.0.weight": (6, 3, 1, 1), "1.0.weight": (6, 1, 3, 3), "2.weight": (5, 6, 1, 1)},
)
def DepthwiseBorder() -> nn.Module:
    """A padded depthwise convolution makes a constant channel vary at the border, so it must stay."""
    return nn.Sequential(block(3, 8, 1), block(8, 8, groups=8), conv(8, 5, 1))


@case(
    X,
    kill={"0": (1,), "1.0": (0, 1, 4)},
    # Input 1 is zero; input 0 is read by two dead filters; output 4 is dead, but its brother 5 is not.
    kept={"0.weight": (2, 3, 3, 3), "1.0.weight": (4, 1, 3, 3), "2.weight": (5, 4, 1, 1)},
)
def DepthwiseMultiplier() -> nn.Module:
    """A depthwise convolution with two filters for each channel."""
    return nn.Sequential(conv(3, 4), block(4, 8, groups=4), conv(8, 5, 1))


@case(X, kill={"1": (0, 5)}, kept={"0.0.weight": (4, 3, 3, 3), "1.weight": (6, 2, 3, 3), "2.weight": (5, 6, 3, 3)})
def GroupedProducer() -> nn.Module:
    """A grouped convolution with one dead filter in each group, at different offsets."""
    return nn.Sequential(block(3, 4), conv(4, 8, groups=2), conv(8, 5))


@case(X, kill={"1": (0, 1, 5)}, kept={"1.weight": (6, 2, 3, 3), "2.weight": (5, 6, 3, 3)})
def GroupedProducerUneven() -> nn.Module:
    """A grouped convolution with more dead filters in one group: every group keeps as many as the fullest."""
    return nn.Sequential(block(3, 4), conv(4, 8, groups=2), conv(8, 5))


@case(X, kill={"0": (0, 6)}, kept={"0.weight": (6, 3, 3, 3), "1.weight": (4, 3, 3, 3), "2.weight": (5, 4, 1, 1)})
def GroupedReader() -> nn.Module:
    """A grouped convolution that reads one dead channel in each group, at different offsets."""
    return nn.Sequential(conv(3, 8), conv(8, 4, groups=2, bias=True), conv(4, 5, 1))


@case(X, kill={"0.0": (0, 1, 5, 6)}, kept={"0.0.weight": (6, 3, 3, 3), "1.weight": (4, 3, 3, 3)})
def GroupedReaderOfConstants() -> nn.Module:
    """A padded grouped convolution reads two constants in each group: one of them stays in each."""
    return nn.Sequential(block(3, 8), conv(8, 4, groups=2), conv(4, 5, 1))


@case(
    X,
    kill={"1": (0, 1)},
    kept={"0.weight": (4, 3, 3, 3), "1.weight": (2, 4, 3, 3), "2.weight": (5, 2, 1, 1)},
)
def GroupDies() -> nn.Module:
    """All filters of one group are dead: the group goes, and with it what only it read."""
    return nn.Sequential(conv(3, 8), conv(8, 4, groups=2), conv(4, 5, 1))


@case(
    (2, 8, 6, 6),
    kill={"b": (0, 3, 4, 7)},
    kept={"b.weight": (4, 4, 3, 3), "c.weight": (5, 4, 1, 1)},
)
class GroupedBetweenShuffles(nn.Module):
    """A grouped convolution on shuffled channels (ShuffleNet v1)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(8, 8, groups=2), conv(8, 8, groups=2), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.channel_shuffle(F.relu(self.a(x)), 2))))


@case(
    X,
    kill={"0": (0,), "1": (1,)},
    kept={"0.weight": (5, 3, 3, 3), "1.weight": (5, 3, 3, 3), "2.running_mean": (3,), "4.weight": (5, 3, 1, 1)},
)
def Transposed() -> nn.Module:
    """A transposed convolution keeps its filters along the second axis of its weight."""
    up = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(conv(3, 6), up, nn.BatchNorm2d(4), nn.ReLU(), conv(4, 5, 1))


@case(
    X,
    kill={"0": (0, 5), "1": (1, 2)},
    kept={"0.weight": (6, 3, 3, 3), "1.weight": (6, 1, 2, 2), "2.weight": (5, 2, 3, 3)},
)
def TransposedGrouped() -> nn.Module:
    """A grouped transposed convolution: weight (C, K/groups, ...), filters of every group side by side."""
    return nn.Sequential(conv(3, 8), nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2, bias=False), conv(4, 5))


@case(X, kill={"0.0": (0, 1, 2)}, kept={"0.0.weight": (4, 3, 3, 3), "1.weight": (4, 4, 2, 2)})
def TransposedReaderOfConstants() -> nn.Module:
    """A transposed convolution makes patterns of constants: all are merged into one."""
    return nn.Sequential(block(3, 6), nn.ConvTranspose2d(6, 4, 2, stride=2), conv(4, 5, 1))


@case(
    X,
    kill={"0": (1,), "1": (0, 2)},
    kept={"0.weight": (3, 3, 3, 3), "1.weight": (3, 1, 3, 3), "2.weight": (5, 3, 1, 1)},
)
def TransposedDepthwise() -> nn.Module:
    """A depthwise transposed convolution with bias: a zero input or filter leaves a constant."""
    return nn.Sequential(conv(3, 6), nn.ConvTranspose2d(6, 6, 3, groups=6), conv(6, 5, 1))


@case(
    (2, 3, 8, 8),
    kill={"a": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "e.weight": None, "d.weight": None, "p.weight": None},
)
class UnreadTail(nn.Module):
    """Nothing reads what comes out of an expansion and the depthwise convolution behind it: both go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.e, self.d, self.p = conv(3, 8), conv(8, 12, 1), conv(12, 12, groups=12), conv(12, 6, 1)
        self.g, self.h = conv(12, 12, groups=3), conv(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        levels = [y, self.p(self.g(self.d(self.e(y).relu()).relu()))]
        return self.h(levels[0])
