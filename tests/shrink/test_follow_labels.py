"""A wrong edit is found by the labels that it moves, before and without any comparison of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from campfire_fx import ShrinkError, shrink
from campfire_fx.analysis.edits import gates, movement, reindex
from campfire_fx.analysis.edits.plan import Edit, hold
from campfire_fx.passes import crop_kernels, shrink_channels
from campfire_fx.shrink import pipeline
from tests.random_zeros import randomise, zero_filters

X = torch.randn(1, 3, 8, 8, dtype=torch.float64)


class Moved(nn.Module):
    """Eight channels of which three are dead, moved, and mixed by weights that are all alike."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.move = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 5, 3), move
        randomise(self.double(), 0, positive=True)
        zero_filters(self.a, (1, 4, 5))
        nn.init.ones_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.move(self.a(x)))


class Gated(nn.Module):
    """A residual branch that reads and writes few of the channels of its stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 4, 1)
        self.block = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
        randomise(self.double())
        zero_filters(self.block[2], range(28))
        nn.init.zeros_(self.block[2].bias)
        with torch.no_grad():
            self.block[0].weight[:, 4:] = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.block(x))


def shuffle(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def split(y: Tensor) -> Tensor:
    first, second = y.split([3, 5], 1)
    return torch.cat([second, first], 1)


def flipped(root: fx.GraphModule, graph: fx.Graph, name: str, value: Tensor) -> fx.Node:
    return hold(root, graph, name, value.flip(0))


def swapped(edit: Callable[..., Edit]) -> Callable[..., Edit]:
    def made(run: Any, node: fx.Node, *rest: Any) -> Edit:
        planned = edit(run, node, *rest)

        def apply(replaced: dict[fx.Node, fx.Node]) -> None:
            planned.apply(replaced)
            node.args = (node.args[0], list(node.args[1])[::-1], *node.args[2:])

        return replace(planned, apply=apply)

    return made


def one_less(kept: Tensor) -> Tensor | None:
    return kept.nonzero().flatten()[:-1]


# module, name, what takes its place; the model; how it is shrunk; what is said
FAULTS: dict[str, tuple[Any, str, Any, Callable[[], nn.Module], dict[str, Any], str]] = {
    "channels in another order": (
        reindex, "hold", flipped, lambda: Moved(shuffle), {}, "b: it gets other channels than those of the plan"),
    "sizes of a split": (
        movement, "_call_edit", swapped(movement._call_edit), lambda: Moved(split), {},
        "split: it does not give the channels of the plan"),
    "gates in another order": (
        gates, "hold", flipped, Gated, {"residual": "gate"}, "block_0: it gets other channels than those of the plan"),
    "a weight too narrow": (
        shrink_channels, "_index", one_less, lambda: Moved(shuffle), {},
        r"a: its weight is \(4, 2, 1, 1\), and the plan keeps 15 kernels"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_edit_is_found_without_numbers(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, name, wrong, model, wishes, said = FAULTS[fault]
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    shrink(model().eval(), x, verify=False, **wishes)
    monkeypatch.setattr(holder, name, wrong)
    with pytest.raises(ShrinkError, match=f"^Shrinking would go wrong at {said}"):
        shrink(model().eval(), x, verify=False, **wishes)


def test_numbers_alone_would_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel shuffled to another place is the same to a layer whose weights are all alike."""
    monkeypatch.setattr(reindex, "hold", flipped)
    monkeypatch.setattr(pipeline, "check_channels", lambda removal: None)
    assert shrink(Moved(shuffle).eval(), X).verification.difference < 1e-10


def test_what_cropping_pads_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Moved(shuffle)
    with torch.no_grad():
        model.b.weight[..., 0] = 0
    monkeypatch.setattr(crop_kernels, "MACS_PER_MOVE", 0)
    assert shrink(model.eval(), X).verification is not None
