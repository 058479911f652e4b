"""Of two ways that are the same where sizes are equal, the one that is right for all is taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink
from campfire_fx.capture import is_refusal, trace
from tests.capture.checks import captured_whole

X, OTHERS = torch.randn(1, 3, 8, 12), (torch.randn(1, 3, 12, 8), torch.randn(2, 3, 10, 14), torch.randn(1, 3, 9, 7))


class Grid(nn.Module):
    """Keeps the positions of the last size it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.shape, self.positions = nn.Conv2d(3, 4, 3, padding=1), None, torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        if self.shape != y.shape:
            self.shape: Any = y.shape
            h, w = y.shape[2:]
            self.positions = torch.arange(h, dtype=y.dtype)[:, None] - torch.arange(w, dtype=y.dtype)
        return y + self.positions


class Heights(Grid):
    """Keeps one size at a time as a number, and asks by a method."""

    def __init__(self) -> None:
        super().__init__()
        self.height = -1

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        if y.size(2) != self.height:
            self.height, self.positions = y.size(2), torch.linspace(0, 1, y.size(2), dtype=y.dtype)[:, None]
        return y + self.positions


class Table(Grid):
    """Keeps them all."""

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[Any, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        key = tuple(y.shape[2:])
        if key not in self.table:
            self.table[key] = torch.ones(key, dtype=y.dtype).cumsum(1)
        return y + self.table[key]


@pytest.mark.parametrize("kind", [Grid, Heights, Table])
@pytest.mark.parametrize("used", [None, X, *OTHERS])
def test_what_a_module_keeps_by_size_is_computed_anew(kind: type[Grid], used: Tensor | None) -> None:
    model = kind().eval()
    with torch.no_grad():
        model.a.weight[:2], model.a.bias[:2] = 0, 0
        if used is not None:
            model(used)
    captured = trace(model, X)
    assert not [fact.guard for fact in captured.islands[0].specialisations if fact.guard]
    slim = shrink(model, X)
    assert len(slim.verification.runs) == 2
    with torch.no_grad():
        for x in (X, *OTHERS):
            expected = model(x)
            assert torch.equal(captured.module(x), expected) and torch.allclose(slim(x), expected, atol=1e-6)


class Decoder(nn.Module):
    """Brings what it has to the size of what it joins, where the sizes differ."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.end = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(self.down(x), scale_factor=2)
        if y.shape[-2:] != x.shape[-2:]:
            y = F.interpolate(y, x.shape[-2:], mode="nearest")
        return self.end(torch.cat([x, y], 1))


@pytest.mark.parametrize("example", [X, OTHERS[2]])
def test_sizes_are_brought_together_whether_they_differ_or_not(example: Tensor) -> None:
    captured_whole(Decoder(), example, X, *OTHERS)


class TwoAtOnce(Decoder):
    """One line of code brings two to a size: of the second only a sum is left where it has that size already."""

    def forward(self, x: Tensor) -> Tensor:
        for y, back in ((self.down(x), F.interpolate), (self.down(x)[:, :, :3], _summed)):
            if y.shape[-2:] != x.shape[-2:]:
                y = back(y, x.shape[-2:])
            x = torch.cat([x[:, :3], y], 1)
        return self.end(x)


def _summed(y: Tensor, size: Any) -> Tensor:
    return y.sum((2, 3), keepdim=True).expand(-1, -1, *size)


def test_a_line_is_right_for_what_it_was_seen_to_be_right_for_alone() -> None:
    model = TwoAtOnce().eval()
    model.down = nn.Conv2d(3, 4, 3, padding=1)
    captured = trace(model, torch.randn(1, 3, 8, 12))
    assert any("!=" in fact.guard for fact in captured.islands[0].specialisations)
    with pytest.raises(AssertionError, match="this model was traced with"):
        captured.module(torch.randn(1, 3, 3, 12))


class Bends(Decoder):
    """The other way does more than bring sizes together."""

    def bent(self, y: Tensor, size: Any) -> Tensor:
        return F.interpolate(y, size).clamp(-20, 20)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(self.down(x), scale_factor=2) * 9
        if y.shape[-2:] != x.shape[-2:]:
            y = self.bent(y, x.shape[-2:])
        return self.end(torch.cat([x, y], 1))


class Trains(Bends):
    """The other way goes through weights that do nothing yet."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Conv2d(4, 4, 1, bias=False)
        nn.init.zeros_(self.extra.weight)

    def bent(self, y: Tensor, size: Any) -> Tensor:
        y = F.interpolate(y, size)
        return y + self.extra(y)


@pytest.mark.parametrize("kind", [Bends, Trains])
def test_ways_that_differ_are_guarded(kind: type[nn.Module]) -> None:
    model, odd = kind().eval(), torch.randn(1, 3, 9, 12)
    module, other = trace(model, X).module, trace(model, odd).module
    module(torch.randn(3, 3, 10, 6))
    other(odd)
    with pytest.raises(AssertionError, match="this model was traced with"):
        other(X)
    with pytest.raises(AssertionError, match="this model was traced with") as caught:
        module(odd)
    assert is_refusal(caught.value)
