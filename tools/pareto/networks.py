"""Networks for small images, of any width."""

from __future__ import annotations

from typing import Any

from run_files import ROOT  # noqa: F401 - it also lets campfire_fx be found
from torch import nn

from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import SmallResNet, restart
from campfire_fx.app.train.sources import need

# MobileNetV2 (arXiv 1801.04381), table 2, at half its widths: expansion, channels, blocks, stride of the first block.
# On 32 x 32 pixels the first convolution and the stage of 80 channels do not stride.
_STAGES = ((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 1), (6, 160, 1, 1))
_STEM, _LAST = 16, 640


def resnet20(classes: int, channels: int, width: float = 1.0) -> nn.Module:
    """Return a ResNet-20 whose every width is multiplied by `width`; 272 thousand parameters at 1."""
    first, second, third = (_times(width, channels) for channels in (16, 32, 64))
    return SmallResNet(3, classes, channels, widths=(first, second, third))


def mobilenet_v2_small(classes: int, channels: int, width: float = 1.0) -> nn.Module:
    """Return a MobileNetV2 of half the usual widths for 32 x 32 pixels, which it halves three times.

    Every width is multiplied by `width`; 587 thousand parameters at 1.
    """
    need("torchvision", "torchvision")
    from torchvision.models.mobilenetv2 import InvertedResidual
    from torchvision.ops import Conv2dNormActivation

    before, last = _times(width, _STEM), _times(width, _LAST)
    layers = [Conv2dNormActivation(channels, before, activation_layer=nn.ReLU6)]
    for expansion, wide, blocks, stride in _STAGES:
        for index in range(blocks):
            layers.append(InvertedResidual(before, _times(width, wide), 1 if index else stride, expansion))
            before = _times(width, wide)
    layers.append(Conv2dNormActivation(before, last, 1, activation_layer=nn.ReLU6))
    return restart(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)))


NETWORKS = {"resnet20": resnet20, "mobilenet_v2_small": mobilenet_v2_small}


def build(name: str, classes: int, channels: int, width: float = 1.0) -> nn.Module:
    """Return a network with new weights: one of NETWORKS, or what `build_model` knows.

    Args:
        name: of the network.
        classes: outputs.
        channels: of an image.
        width: factor of all widths; a factory of the user's is given it if it takes it.
    """
    if name in NETWORKS:
        return NETWORKS[name](classes, channels, width)
    options: dict[str, Any] = {"width": width} if ":" in name else {}
    return build_model(name, classes=classes, channels=channels, **options)


def _times(width: float, channels: int) -> int:
    return max(1, round(width * channels))
