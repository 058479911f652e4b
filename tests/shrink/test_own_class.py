"""Slim layers in the class of the model that they were cut from."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from campfire_fx import ShrinkError, shrink
from campfire_fx.shrink.own_class import in_own_class
from tests.random_zeros import randomise

X = torch.randn(2, 3, 12, 12)


class Conv(nn.Module):
    usual = nn.SiLU()  # one for all: a layer that stands in several modules

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(c1, c2, 3, padding=1, bias=False), nn.BatchNorm2d(c2)
        self.act = Conv.usual

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Halves(nn.Module):
    """Takes its channels apart in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = Conv(8, 8), nn.Conv2d(4, 4, 3, padding=1), Conv(12, 8)
        self.place = 1

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.first(x).chunk(2, 1))
        y.append(self.inner(y[-1]))
        return self.last(torch.cat(y, 1))


class Net(nn.Module):
    kind = "detector"

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(Conv(3, 8), Halves(), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.model:
            x = layer(x)
        return {"found": x}


def net(*dead: int) -> Net:
    torch.manual_seed(0)
    model = randomise(Net()).eval()
    with torch.no_grad():
        model.model[1].inner.weight[2] = 0
        model.model[1].inner.bias[2] = 0
        model.model[1].last.conv.weight[:, list(dead)] = 0  # read by nothing
        model.model[1].inner.weight[:, [place - 4 for place in dead if place >= 4]] = 0
    return model


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one(X)["found"], other(X)["found"], rtol=1e-5, atol=1e-5)


def test_layers_are_put_back_where_no_code_changes() -> None:
    model = net(1, 5)  # one of each half
    own = in_own_class(shrink(model, X), model)
    assert type(own.model) is Net and own.rewritten == () and own.model.kind == "detector"
    assert type(own.model.model[1]) is Halves and own.verification.difference < 1e-5
    assert own.model.model[1].first.conv.weight.shape == (6, 8, 3, 3)
    assert own.model.model[1].first.act is own.model.model[0].act
    assert_same(model, own.model)


def test_a_module_whose_code_changes_becomes_a_graph() -> None:
    model = net(1, 2)  # of one half alone
    own = in_own_class(shrink(model, X), model)
    assert own.rewritten == ("model.1",)
    assert own.model.model[1].place == 1 and isinstance(own.model.model[1][0], fx.GraphModule)
    assert isinstance(own.model.model[1][0].first, Conv)  # what did not change keeps its class
    again = copy.deepcopy(own.model)
    assert again.model[1].place == 1  # a copy of an fx.GraphModule alone would lose it
    file = io.BytesIO()
    torch.save(own.model, file)
    file.seek(0)
    for other in (own.model, again, torch.load(file, weights_only=False)):
        assert_same(model, other)


def test_it_trains_as_its_class_does() -> None:
    model = net(1, 2)
    own = in_own_class(shrink(model, X), model).model.train()
    before = own.model[1][0].first.norm.running_mean.clone()
    own(X)["found"].sum().backward()
    assert not before.equal(own.model[1][0].first.norm.running_mean)
    assert all(parameter.grad is not None for parameter in own.parameters())


def test_code_that_no_module_holds_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat(self.first(x).split([2, 6], 1), 1))

    model = Bare().eval()
    with torch.no_grad():
        model.last.weight[:, 0] = 0
    with pytest.raises(ShrinkError, match="the model's own forward would have to change"):
        in_own_class(shrink(model, X), model)


def test_a_slim_model_of_another_model_is_refused() -> None:
    with pytest.raises(ShrinkError, match="was not made of this model"):
        in_own_class(shrink(net(1, 2), X), net(1, 5))
