"""Networks that benchmarks ask for by name."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from campfire_fx.app.train.networks import NETWORKS


class PreActivation(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, around an identity or a 1x1 convolution."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        same = channels_in == channels and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H / stride, W / stride)."""
        out = self.relu1(self.bn1(x))
        stream = x if self.shortcut is None else self.shortcut(out)
        return stream + self.conv2(self.relu2(self.bn2(self.conv1(out))))


def wide_resnet(depth: int, width: int, classes: int = 10) -> nn.Module:
    """WRN-depth-width for small images (Zagoruyko and Komodakis, 2016)."""
    blocks, channels = (depth - 4) // 6, (16, 16 * width, 32 * width, 64 * width)
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    for stage in range(3):
        for block in range(blocks):
            source = channels[stage] if block == 0 else channels[stage + 1]
            parts.append(PreActivation(source, channels[stage + 1], 2 if stage and block == 0 else 1))
    head = (nn.BatchNorm2d(channels[3]), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*parts, *head, nn.Linear(channels[3], classes))


def by_name(name: str) -> nn.Module:
    """Return wrn16-8 and the like, a network of the train command, or a torchvision classifier; with new weights."""
    if name.startswith("wrn"):
        depth, width = name.removeprefix("wrn").split("-")
        return wide_resnet(int(depth), int(width))
    if name in NETWORKS:
        return NETWORKS[name](channels=3)
    network: nn.Module = torchvision.models.get_model(name)
    return network
