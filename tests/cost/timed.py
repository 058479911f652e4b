"""A clock that knows: times of layers by a law in place of measured ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from campfire_fx.cost import latency_table as module
from campfire_fx.cost.latency_points import Point

Law = Callable[[Point], float]


def by_area(point: Point) -> float:
    return point.inputs * point.outputs / 1000


@dataclass
class Clock:
    """Stands for `measure`; remembers what it was asked for."""

    law: Law = by_area
    whole: float = 100.0
    norms: float = 0.0
    asked: list[Point] = field(default_factory=list)

    def measure(
        self, points: Sequence[Point], others: Mapping[str, Callable[[], object]], device: torch.device
    ) -> dict[str, float]:
        self.asked += points
        found = {point.key: self.law(point) for point in points}
        return found | {key: self.norms if "norm" in key else self.whole for key in others}


def use(patch: pytest.MonkeyPatch, clock: Clock, *, step: int | None = 1) -> Clock:
    """Measure with this clock, and let convolutions have this step; None: that of the machine."""
    patch.setattr(module, "measure", clock.measure)
    if step is not None:
        patch.setattr(module, "step_of", lambda call, device: step if call.operation != "Linear" else 1)
    return clock


class Plain(nn.Module):
    """Two convolutions, of which the second runs twice at two sizes, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.twice = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.unused = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.stem(x).relu())
        x = self.twice(x[:, :, ::2, ::2])
        return self.head(x.mean((2, 3)))


IMAGE = torch.randn(2, 3, 8, 8)
