"""A network whose callers choose what it computes: by options, masks, batch sizes and the lengths of lists."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Eight channels: 0-2 dead for all, 3 read by `b` alone, 4 by `c` alone, the others by both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.b, self.c = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.1, 0.1)
            for dead, layers in (((0, 1, 2), (self.b, self.c)), ((4,), (self.b,)), ((3,), (self.c,))):
                for layer in layers:
                    layer.weight[:, list(dead)] = 0

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.a(x)))


class Features(Net):
    def forward(self, x: Tensor, return_features: bool = False) -> Any:
        y = self.features(x)
        return (self.b(y), self.c(y)) if return_features else self.b(y)


class Masked(Net):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.features(x)
        return self.b(y) if mask is None else self.c(y * mask)


class Batched(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        if x.size(0) > 1:
            return self.b(y - y.mean(0, keepdim=True))
        return self.c(y)


class Images(Net):
    def forward(self, images: list[Tensor]) -> Any:
        return torch.cat([self.b(self.features(image)) for image in images]), self.c(self.features(images[-1]))
