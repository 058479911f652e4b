"""Kinds of layers: grouped, depthwise, transposed, padded, strided, 1-D and 3-D, subclasses, slopes, norms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.nets.case import block, case, conv, zero

X = (2, 3, 8, 8)


@case(
    (2, 3, 20),
    kill={"0": (0,), "3": (1, 2)},
    kept={"0.weight": (7, 3, 5), "3.weight": (4, 7, 3), "5.weight": (4, 5, 2)},
)
def OneDimensional() -> nn.Module:
    """A 1-D network: convolutions, norm, pool, transposed convolution."""
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2, bias=False), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 6, 3, bias=False),
        nn.LeakyReLU(0.1), nn.ConvTranspose1d(6, 5, 2, stride=2),
    )  # fmt: skip


@case(
    (2, 3, 5, 8, 8),
    kill={"0": (0,), "3": (1, 2)},
    kept={"0.weight": (7, 3, 3, 3, 3), "1.weight": (7,), "3.weight": (4, 7, 1, 3, 3), "5.weight": (4, 5, 1, 2, 2)},
)
def ThreeDimensional() -> nn.Module:
    """A 3-D network: convolutions, norm, pool, transposed convolution."""
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 6, (1, 3, 3), bias=False),
        nn.AvgPool3d((1, 2, 2)), nn.ConvTranspose3d(6, 5, (1, 2, 2), stride=(1, 2, 2)),
    )  # fmt: skip


@case(X, kill={"0.0": (0, 1)}, kept={"0.0.weight": (6, 3, 3, 3), "1.weight": (6,), "2.weight": (5, 6, 1, 1)})
def PReLUPerChannel() -> nn.Module:
    """A PReLU with a slope for each channel."""
    return nn.Sequential(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8)), nn.PReLU(8), conv(8, 5, 1))


@case(X, kill={"0": (0, 1)}, kept={"0.weight": (6, 3, 3, 3), "1.weight": (1,), "2.weight": (5, 6, 3, 3)})
def PReLUShared() -> nn.Module:
    """A PReLU with one slope for all channels."""
    return nn.Sequential(conv(3, 8), nn.PReLU(), conv(8, 5))


@case(
    X,
    kill={"a": (0, 1)},
    kept={"a.weight": (6, 3, 3, 3), "scale": (6, 1, 1), "shift": (1, 6, 1, 1), "b.weight": (5, 6, 1, 1)},
)
class LayerScale(nn.Module):
    """Bare parameters with one entry for each channel, as ConvNeXt's layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 5, 1)
        self.scale, self.shift = nn.Parameter(torch.full((8, 1, 1), 1e-6)), nn.Parameter(torch.zeros(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.scale + self.shift)


def _padded(mode: str, kept: int, **options: Any) -> None:
    def build() -> nn.Module:
        return nn.Sequential(block(3, 8), conv(8, 5, padding_mode=mode, **options))

    build.__name__ = f"Padding{mode.title()}{'Same' if options.get('padding') == 'same' else ''}"
    build.__doc__ = f"Three constants read by a convolution with padding mode {mode}."
    shapes = {"0.0.weight": (kept, 3, 3, 3), "1.weight": (5, kept, 3, 3)}
    case(X, kill={"0.0": (0, 3, 4)}, kept=shapes)(build)


for _mode in ("circular", "reflect", "replicate"):
    _padded(_mode, 5)  # the padding repeats the constants, so all fold into the bias
_padded("zeros", 6)  # zeros around them: one constant stays
_padded("zeros", 6, padding="same")


@case(X, kill={"0.0": (0, 3, 4)}, kept={"0.0.weight": (6, 3, 3, 3), "1.weight": (5, 6, 3, 3)})
def DilationAndStride() -> nn.Module:
    """Constants read by a dilated, strided, zero-padded convolution: the border has many widths."""
    return nn.Sequential(block(3, 8), conv(8, 5, stride=2, dilation=2, padding=(3, 1)))


class Plain(nn.Conv2d):
    """A subclass that changes nothing."""


class Standardised(nn.Conv2d):
    """A convolution on weights standardised over each filter: a zero filter stays zero, a zero kernel does not."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return F.conv2d(
            x, weight / (weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5), self.bias, self.stride, self.padding
        )


class Shifted(nn.BatchNorm2d):
    """A norm with its own forward and an activation in it, as in model zoos."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        return F.relu(x)


@case(X, kill={"0": (0, 1)}, kept={"0.weight": (6, 3, 3, 3), "1.weight": (6,), "2.weight": (5, 6, 1, 1)})
def Subclasses() -> nn.Module:
    """Subclasses of torch's layers, one that changes nothing and one with a forward of its own."""
    return nn.Sequential(Plain(3, 8, 3, padding=1), Shifted(8), Plain(8, 5, 1))


@case(
    X,
    kill={"0": (0, 1), "2.0": (1, 4)},
    kept={"1.weight": (8, 6, 3, 3), "2.0.weight": (4, 8, 3, 3), "3.weight": (5, 4, 1, 1)},
)
def WeightStandardised() -> nn.Module:
    """A weight that is computed, from all of its channels: its value is cut, not what it is computed from."""
    return nn.Sequential(conv(3, 8), Standardised(8, 8, 3, padding=1), block(8, 6), conv(6, 5, 1))


def _prune(net: Any) -> None:
    mask = torch.ones_like(net[0].weight)
    mask[[1, 6]] = 0
    prune.custom_from_mask(net[0], "weight", mask)


@case(X, damage=_prune, made=("0.weight",), kept={"0.weight": (6, 3, 3, 3), "2.weight": (5, 6, 3, 3)})
def UtilsPrune() -> nn.Module:
    """Zeros of torch.nn.utils.prune: masks in buffers, weights made by a hook."""
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 5))


@case(
    X,
    damage=lambda net: zero(net[0].parametrizations.weight.original0, 1, 6),
    made=("0.weight",),
    kept={"0.weight": (6, 3, 3, 3), "2.weight": (5, 6, 3, 3)},
)
def WeightNorm() -> nn.Module:
    """Weights made by a parametrization, with a length of zero for two filters."""
    return nn.Sequential(parametrizations.weight_norm(conv(3, 8)), nn.ReLU(), conv(8, 5))


@case(X, kill={"0": (0, 1)}, kept={"0.weight": (6, 3, 3, 3), "1.running_var": (6,), "3.weight": (5, 6, 1, 1)})
def InstanceNormRunning() -> nn.Module:
    """InstanceNorm with running statistics is a BatchNorm in evaluation mode."""
    return nn.Sequential(
        conv(3, 8), nn.InstanceNorm2d(8, affine=True, track_running_stats=True), nn.ReLU(), conv(8, 5, 1)
    )


@case(X, kill={"0": (0, 1), "3": (2,)}, kept={"4.weight": (4, 4, 1, 1)})
def InstanceNormOwn() -> nn.Module:
    """InstanceNorm that measures each image: channels stay apart."""
    norm = nn.InstanceNorm2d(8, affine=True)
    return nn.Sequential(conv(3, 8), norm, nn.ReLU(), conv(8, 5, 1), conv(5, 4, 1))


@case(X, kill={"0": (0, 1)}, kept={"0.weight": (6, 3, 3, 3), "1.running_var": (6,), "3.weight": (5, 6, 1, 1)})
def BatchNormBare() -> nn.Module:
    """A BatchNorm without scale and shift, whose dead channels stay constants."""
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8, affine=False), nn.ReLU(), conv(8, 5, 1))


@case(X, kill={"0": (0, 1)}, kept={"0.weight": (6, 3, 3, 3), "1.weight": (6,), "3.weight": (5, 6, 1, 1)})
def BatchNormOwn() -> nn.Module:
    """A BatchNorm without running statistics: it measures each batch, in evaluation too."""
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU(), conv(8, 5, 1))


@case(
    X,
    kill={"0": (0, 1), "2": (3,)},
    kept={"0.weight": (6, 3, 3, 3), "2.weight": (5, 6, 3, 3), "4.weight": (4, 5, 1, 1)},
)
def Recurring() -> nn.Module:
    """The same activation module at several places, as torchvision's models have it."""
    act = nn.ReLU(inplace=True)
    return nn.Sequential(conv(3, 8), act, conv(8, 6), act, conv(6, 4, 1))
