"""Residual networks for small images: a stem and three stages of 16, 32 and 64 channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity, or around a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + shortcut)


class SmallResNet(nn.Module):
    """Stem, three stages of `blocks` residual blocks each, mean over space, one linear layer.

    Every layer starts as torch's own `reset_parameters` leaves it, so that a slimmer copy of the network can be
    started anew by the same law.

    Args:
        blocks: residual blocks per stage; the network has 6 * blocks + 2 layers.
        classes: outputs.
        channels: input channels, 1 for grey and 3 for colour images.
        widths: channels of the three stages.
    """

    def __init__(
        self, blocks: int, classes: int = 10, channels: int = 3, widths: tuple[int, int, int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(blocks, widths[0], widths[0], stride=1)
        self.layer2 = _stage(blocks, widths[0], widths[1], stride=2)
        self.layer3 = _stage(blocks, widths[1], widths[2], stride=2)
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def _stage(blocks: int, channels_in: int, channels: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(ResidualBlock(channels, channels, 1) for _ in range(blocks - 1)))


def resnet8(classes: int = 10, channels: int = 3) -> SmallResNet:
    """Return a network of 8 layers, 78 thousand parameters."""
    return SmallResNet(1, classes, channels)


def resnet14(classes: int = 10, channels: int = 3) -> SmallResNet:
    """Return a network of 14 layers, 175 thousand parameters."""
    return SmallResNet(2, classes, channels)


def resnet20(classes: int = 10, channels: int = 3) -> SmallResNet:
    """Return a network of 20 layers, 272 thousand parameters."""
    return SmallResNet(3, classes, channels)


NETWORKS = {"resnet8": resnet8, "resnet14": resnet14, "resnet20": resnet20}


def restart(network: nn.Module) -> nn.Module:
    """Give every layer of a network new initial weights, in place, and return the network.

    What is no layer's own (a constant that a graph holds) stays as it is.
    """
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return network
