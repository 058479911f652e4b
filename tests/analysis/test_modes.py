"""Each module of what comes back is in the mode in which it was given, and stays itself in both."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import campfire_fx
from tests.assertions import assert_same_output
from tests.nets.case import block
from tests.random_zeros import randomise, zero_filters

X = torch.randn(2, 3, 12, 12)


class Switching(fx.GraphModule):
    """A graph module that runs one graph in training and another in evaluation, as feature extractors do."""

    def __init__(self, root: nn.Module) -> None:
        graphs = [fx.Tracer().trace(root.train(mode)) for mode in (False, True)]
        super().__init__(root, graphs[1])
        self.graphs = graphs

    def train(self, mode: bool = True) -> Switching:
        if "graphs" in self.__dict__:
            self.graph = self.graphs[mode]
            self.recompile()
        return super().train(mode)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = block(3, 6), block(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.two(x) * 2 if self.training else self.two(x)


class Net(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def net(kind: str) -> Any:
    body = randomise(Body(), 0)
    zero_filters(body.one[0], (1, 4))
    model = Net(Switching(body) if kind == "switching" else body).train()
    if kind != "whole":
        model.body.eval()
    return model if kind != "whole" else model.eval()


def modes(model: nn.Module) -> dict[str, bool]:
    return {path: module.training for path, module in model.named_modules()}


@pytest.mark.parametrize("kind", ["frozen part", "switching", "whole"])
@pytest.mark.parametrize("what", ["slim", "sparse"])
def test_every_module_is_in_the_mode_in_which_it_was_given(kind: str, what: str) -> None:
    model = net(kind)
    given, state = modes(model), copy.deepcopy(model.state_dict())
    if what == "slim":
        made: Any = campfire_fx.shrink(model, X)
    else:
        made = campfire_fx.sparsify(model, sparsity=0.5, example_inputs=X, prune_stem=True)
    assert modes(model) == given
    found = modes(made)
    assert {path: found[path] for path in given.keys() & found.keys()} == {
        p: given[p] for p in given.keys() & found.keys()
    }
    assert "body.two.1" in found
    with torch.no_grad():
        torch.testing.assert_close(made(X), model(X))
    now = made.state_dict()
    assert all(torch.equal(now[k], state[k]) for k in now.keys() & state.keys() if now[k].shape == state[k].shape)
    assert_same_output(model, made, (X,))
