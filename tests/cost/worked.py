"""A network small enough to count by hand."""

from __future__ import annotations

import torch
from torch import nn

from campfire_fx.cost import Work, work_of


class Worked(nn.Module):
    """At 8 x 8: stem 2 * 3 * 9 * 64 = 3456 MACs, grouped 4 * 1 * 1 * 64 = 256, classifier 4 * 5 = 20."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.fc = nn.Linear(4, 5)
        self.stem = nn.Conv2d(3, 2, 3, padding=1)
        self.grouped = nn.Conv2d(2, 4, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(input=self.grouped(self.stem(x).relu()).mean((2, 3)))


MACS = {"stem": 3456, "grouped": 256, "fc": 20}


def worked() -> Work:
    return work_of(Worked(), (torch.zeros(1, 3, 8, 8),))
