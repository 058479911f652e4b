"""Python numbers that change from run to run are counted on as before; no graph keeps the first value of one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import CaptureError
from campfire_fx.capture import trace
from tests.capture.checks import captured_whole
from tests.capture.habits import Base

X = torch.randn(2, 3, 8, 8)


class Counts(Base):
    """Counts, and computes without the count."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen, self.phase = 0, 0.5, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen = self.seen + 2 * self.calls
        self.phase = (1 + self.phase) % 3
        return self.norm(self.conv(x))


class SetsAnew(Base):
    """Sets a number before it reads it: what it was before does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 3.0
        return self.conv(x) * self.scale


class Anneals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.step = nn.Conv2d(4, 4, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.step += 1
        return self.conv(x) * (1 + 0.1 * self.step)  # here


class WarmsUp(Anneals):
    def forward(self, x: Tensor) -> Tensor:
        self.step += 1
        return self.conv(x) if self.step < 3 else x * 2  # here


class Initialises(Anneals):
    def __init__(self) -> None:
        super().__init__()
        self.is_ready = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_ready:  # here
            x = x + 1
            self.is_ready = True
        return self.conv(x)


class Around(nn.Module):
    """A model with such a part in it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Conv2d(3, 4, 1), part, nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x)))


@pytest.mark.parametrize("model", [Counts, SetsAnew])
def test_what_is_only_counted_hinders_nothing(model: type[nn.Module]) -> None:
    captured_whole(model(), X, torch.randn(1, 3, 6, 6))


@pytest.mark.parametrize("part", [Anneals, WarmsUp, Initialises])
def test_what_computes_with_a_count_goes_on_counting(part: type[nn.Module]) -> None:
    model = Around(part())
    captured = trace(model, X)
    message = dict(captured.untraced)["part"]
    name = "is_ready" if part is Initialises else "step"
    first = "(False at first)" if part is Initialises else "(0 at first)"
    assert f"forward() computes with part.{name}, which changes from run to run {first}" in message
    assert message.startswith("Counter at test_counters.py:") and message.endswith("trace the parts of the model.")
    assert_counts_alike(model, captured.module)


def test_a_count_of_the_model_itself() -> None:
    model, x = Anneals(), torch.randn(1, 4, 5, 5)
    with pytest.raises(CaptureError, match=r"Counter at test_counters.py:\d+: forward\(\) computes with step, which"):
        trace(model, x)
    model = nn.Sequential(nn.Conv2d(4, 4, 1), model)
    assert_counts_alike(model, trace(model, x).module, x)


def assert_counts_alike(model: nn.Module, module: nn.Module, x: Tensor = X) -> None:
    model, module = copy.deepcopy(model).train(), copy.deepcopy(module).train()
    with torch.no_grad():
        found = [(model(x), module(x)) for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in found) and not torch.equal(found[0][0], found[-1][0])
