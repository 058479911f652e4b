"""Dressing: the same object with more methods, through copies, pickles and cycles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from campfire_fx.base.errors import CampfireError
from campfire_fx.layers.dressing import Dress, dress, plain_name, undressed


class Coat(Dress):
    pocket: list[int]

    def wave(self) -> int:
        return len(self.pocket)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.me: Any = [self]  # a cycle

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def dressed(module: nn.Module | None = None) -> Coat:
    return dress(module or Body(), Coat, {"pocket": [1, 2]})


def test_the_module_stays_itself() -> None:
    body = Body()
    coat = dressed(body)
    assert coat is body and isinstance(body, Coat) and isinstance(body, Body)
    assert coat.wave() == 2
    assert type(coat).__name__ == "CoatBody"


@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_dressed_and_apart(through: Any) -> None:
    coat = dressed()
    twin = through(coat)
    assert isinstance(twin, Coat) and isinstance(twin, Body)
    assert twin.pocket == [1, 2] and twin.pocket is not coat.pocket
    assert twin.conv.weight is not coat.conv.weight
    assert twin.me[0] is twin, "a reference back leads to the copy"
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(twin(x), coat(x))
    assert coat.wave() == twin.wave() == 2, "the original has its coat back"


def test_graph_modules_can_be_dressed() -> None:
    coat = dressed(fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))
    x = torch.randn(1, 3, 5, 5)
    for twin in (copy.deepcopy(coat), pickle.loads(pickle.dumps(coat))):
        assert isinstance(twin, Coat) and isinstance(twin, fx.GraphModule)
        assert torch.equal(twin(x), coat(x)) and twin.wave() == 2
    coat.graph.lint()
    coat.recompile()
    assert coat.wave() == 2 and coat(x).shape == (1, 4, 3, 3)


def test_undressed_only_for_a_while() -> None:
    coat = dressed()
    with undressed(coat) as plain:
        assert plain is coat and not isinstance(plain, Coat) and "pocket" not in vars(plain)
    assert isinstance(coat, Coat) and coat.pocket == [1, 2]


def test_a_submodule_that_a_method_would_hide_is_refused() -> None:
    body = Body()
    body.wave = nn.ReLU()
    with pytest.raises(CampfireError, match=r"Body at wave: Coat has a method of that name.*Rename it"):
        dressed(body)
    assert type(body) is Body


def test_the_name_does_not_grow_when_a_dressed_module_is_made_anew() -> None:
    class Hat(Dress):
        """Another dress."""

    coat = dressed(Body())
    assert plain_name(coat) == "Body"
    again = dress(coat, Coat, {"pocket": [3]})
    assert type(again).__name__ == "CoatBody" and plain_name(again) == "Body"
    assert type(dress(again, Hat, {})).__name__ == "HatBody"
    with undressed(coat) as plain:
        assert plain_name(plain) == "Body"
