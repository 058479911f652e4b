"""Small networks of every kind that exporting must cope with, and an input for each."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink
from tests.random_zeros import randomise


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 4)
        self.stages = nn.ModuleList([Bottleneck(4, 3), Bottleneck(4, 2)])
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, inner, 1)
        self.relu = nn.ReLU(inplace=True)
        self.up = nn.Conv2d(inner, channels, 3, padding=1)
        self.gamma = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.gamma * self.up(self.relu(self.down(x))) + x)


class Branches(nn.Module):
    """Concatenation, a channel selection, and a channel shuffle by view."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = block(3, 4), block(3, 2)
        self.register_buffer("order", torch.tensor([5, 0, 3, 1]))
        self.last = nn.Conv2d(4, 4, 3, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], dim=1).index_select(1, self.order)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        first, second = self.last(x).chunk(2, dim=1)
        return torch.cat((second, -first), 1) * 2**-1


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 3, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(3)
        self.up = nn.ConvTranspose3d(3, 2, 2, stride=2)

    def forward(self, clip: Tensor) -> Tensor:
        return self.up(F.leaky_relu(self.norm(self.conv(clip)), 0.1))


class Signal(nn.Module):
    """1-D, with a recurrent head and an element of its tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 5, stride=2, padding="valid", padding_mode="zeros")
        self.lstm = nn.LSTM(6, 4, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(self.conv(x).transpose(1, 2))[0][:, -1]


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.mix = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.relu(self.down(x)))
        y = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.mix(torch.cat([x, y], 1))


class Pair(nn.Module):
    """Two inputs, one with a default, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3)

    def forward(self, image: Tensor, depth: Tensor, scale: float = 2.0) -> tuple[Tensor, list[Tensor]]:
        a, b = self.a(image), self.b(depth)
        return a + b * scale, [a.relu(), b.sigmoid()]


class Named(nn.Module):
    """A dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.out, self.aux = block(3, 4), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.backbone(x)
        return OrderedDict(out=self.out(x), aux=self.aux(x))


class Standardised(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Functional(nn.Module):
    """Functional forms over tensors of its own: a parameter, a saved, an unsaved and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Standardised(3, 4, 3)
        self.weight = nn.Parameter(torch.randn(5, 4) / 2)
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 0.5, persistent=False)
        self.shift = torch.randn(1, 4, 1, 1)
        self.frozen = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(self.conv(x) + self.shift, self.mean, self.var, training=False)
        x = F.dropout(F.gelu(x, approximate="tanh"), 0.5, training=self.training)
        return F.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1), self.weight) ** 2 * self.frozen


class Shared(nn.Module):
    """A module called twice, one under two names, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.twice = block(4, 4)
        self.encoder = nn.ModuleDict({"mix": nn.Conv2d(4, 4, 3, padding=1), "norm": nn.BatchNorm2d(4)})
        self.decoder = nn.Sequential(nn.ReLU(), self.encoder["mix"])
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.stem(x))
        x = self.twice(self.encoder["norm"](self.encoder["mix"](x)))
        return self.second(self.first(self.decoder(x).amax((2, 3))))


class Oddities(nn.Module):
    """Names that are no Python names, item assignment, a comparison, arithmetic on sizes, infinities."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("conv-1", nn.Conv2d(3, 4, 3))
        self.add_module("2", nn.PReLU(4))
        self.add_module(
            "the head", nn.Sequential(OrderedDict([("0", nn.Conv2d(4, 4, 1)), ("3", nn.Hardtanh(-1.5, 0.5))]))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = getattr(self, "the head")(getattr(self, "2")(getattr(self, "conv-1")(x)))
        x = torch.where(x > 0.25, x, x.clamp(max=float("inf")) - 1)
        count = x.size(2) * x.size(3) - 1
        return x.flatten(2)[..., 1 : count + 1 : 2].sum(-1) / count


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).flatten(2).transpose(1, 2))
        return (x + self.attention(x, x, x, need_weights=False)[0]).mean(1)


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3, momentum=None), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Dropout(0.1), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(8, 5), nn.Softmax(dim=1),
    )  # fmt: skip


def columns() -> nn.Module:
    """A slim model with a cropped kernel, a padded one, and gathered columns, plain and in groups."""
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 5, padding=2, stride=2), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, padding_mode="reflect"), nn.ReLU(), nn.Conv2d(8, 4, (3, 2)),
    )  # fmt: skip
    layers: Any = net
    with torch.no_grad():
        layers[0].weight[:, :, 2] = layers[0].weight[:, :, :, 2] = 0
        for layer in (layers[2], layers[4]):
            layer.weight.mul_(torch.rand(layer.weight.shape[1:]) < 0.3)
        layers[6].weight[:, :, [0, 2]] = 0
    with mock.patch("campfire_fx.passes.gather_columns.least_times", return_value=(1.0, 0.1)):
        return shrink(net, torch.randn(IMAGE), columns=True)


def groups() -> nn.Module:
    """A slim model with filters in groups: in another order, and in that of before."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 6, (3, 2), stride=2, padding_mode="reflect", padding=1, bias=False), nn.Flatten(2),
    )  # fmt: skip
    layers: Any = net
    with torch.no_grad():
        layers[2].weight[::2, :4] = layers[2].weight[1::2, 4:] = 0
        layers[5].weight[:3, :6] = layers[5].weight[3:, 6:] = 0
    with mock.patch("campfire_fx.passes.group_filters.least_times_of", lambda runs, _: [1.0, *[0.1] * (len(runs) - 1)]):
        return shrink(net, torch.randn(IMAGE), groups=True)


IMAGE = (2, 3, 12, 12)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "chain": (chain, (IMAGE,)),
    "residual": (Residual, (IMAGE,)),
    "branches": (Branches, (IMAGE,)),
    "volume": (Volume, ((2, 1, 4, 6, 6),)),
    "signal": (Signal, ((2, 2, 31),)),
    "decoder": (Decoder, (IMAGE,)),
    "pair": (Pair, (IMAGE, (2, 1, 12, 12))),
    "named": (Named, (IMAGE,)),
    "functional": (Functional, (IMAGE,)),
    "shared": (Shared, (IMAGE,)),
    "oddities": (Oddities, (IMAGE,)),
    "attention": (Attention, (IMAGE,)),
    "columns": (columns, (IMAGE,)),
    "groups": (groups, (IMAGE,)),
}


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: importlib.import_module("torchvision.models").get_model(name, weights=None)


REAL: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "resnet18": (_torchvision("resnet18"), ((1, 3, 64, 64),)),
    "mobilenet_v3_small": (_torchvision("mobilenet_v3_small"), ((1, 3, 64, 64),)),
}


def build(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a network in eval mode with random statistics, and its inputs."""
    torch.manual_seed(0)
    make, shapes = {**NETS, **REAL}[name]
    net = randomise(make(), 0).eval()
    return net, tuple(torch.randn(shape) for shape in shapes)
