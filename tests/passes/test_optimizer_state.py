"""An optimizer follows its model into the smaller one: parameters exchanged, state cut by the same channels."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import shrink
from tests.assertions import assert_same_output, assert_smaller
from tests.nets.case import block, conv, named
from tests.random_zeros import zero_filters

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    """Multiplies by a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


class TestOptimizer:
    @pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
    def test_state_is_cut_by_the_same_channels(self, kind: Any) -> None:
        model: Any = named(a=block(3, 8), scale=Scale(), b=conv(8, 5, 1)).double()
        wishes = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
        optimizer = kind(model.parameters(), lr=0.01, **wishes)
        for _ in range(2):
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()
        zero_filters(model.a[0], (1, 4))
        old = {n: dict(optimizer.state[p]) for n, p in model.named_parameters()}
        slim = shrink(model, X, optimizer=optimizer)
        kept = [0, 2, 3, 5, 6, 7]
        cut = {
            "a.0.weight": (kept,),
            "a.1.weight": (kept,),
            "a.1.bias": (kept,),
            "scale.by": (kept,),
            "b.weight": (slice(None), kept),
        }
        named_parameters = dict(slim.named_parameters())
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {
            id(p) for p in named_parameters.values()
        }
        for name, index in cut.items():
            for key, value in old[name].items():
                got = optimizer.state[named_parameters[name]][key]
                whole = not torch.is_tensor(value) or value.ndim == 0
                assert got == value if whole else torch.equal(got, value[index]), f"{name} {key}"

    def test_training_goes_on_where_the_masked_model_would_be(self) -> None:
        """With the same masks kept by hand, big and slim model take the same steps (no norm, no constants)."""
        model: Any = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 5)).double()
        zero_filters(model.a, (1, 4))
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        _steps(model, optimizer, 3)
        big, other = copy.deepcopy(model), None
        other = torch.optim.SGD(big.parameters(), 0.05, momentum=0.9)
        other.load_state_dict(optimizer.state_dict())
        slim = shrink(model, X, optimizer=optimizer)
        assert_smaller(model, slim)
        _steps(slim, optimizer, 3)
        _steps(big, other, 3)
        assert_same_output(big, slim, (X,))


def _steps(model: Any, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_step_afterwards_is_the_step_of_the_masked_model(kind: str) -> None:
    """Dead filters, and the kernels that read them, are held at zero in the large model as a mask would."""
    model: Any = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 8), c=conv(8, 5, 1)).double()
    make: Any = {
        "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True),
        "adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    }[kind]
    dead, kept = [1, 4], [0, 2, 3, 5, 6, 7]

    def mask() -> None:
        with torch.no_grad():
            model.a.weight[dead], model.b.weight[:, dead] = 0, 0

    large = make(model.parameters())
    mask()
    for _ in range(3):
        _steps(model, large, 1)
        mask()
    follower = make(model.parameters())
    follower.load_state_dict(copy.deepcopy(large.state_dict()))
    slim: Any = shrink(model, X, optimizer=follower)
    for _ in range(3):
        _steps(model, large, 1)
        mask()
        _steps(slim, follower, 1)
    torch.testing.assert_close(slim.a.weight, model.a.weight[kept])
    torch.testing.assert_close(slim.b.weight, model.b.weight[:, kept])
    torch.testing.assert_close(slim.c.weight, model.c.weight)


def test_state_of_a_grouped_weight() -> None:
    model: Any = named(a=conv(3, 8), b=conv(8, 6, groups=2), c=conv(6, 4)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    _steps(model, optimizer, 2)
    with torch.no_grad():
        model.b.weight[:3, 0], model.b.weight[3:, 2], model.c.weight[:, [1, 5]] = 0, 0, 0
    old = optimizer.state[model.b.weight]["momentum_buffer"].clone()
    slim: Any = shrink(model, X, optimizer=optimizer)
    got = optimizer.state[slim.b.weight]["momentum_buffer"]
    assert torch.equal(got[:2], old[[0, 2]][:, [1, 2, 3]]) and torch.equal(got[2:], old[[3, 4]][:, [0, 1, 3]])
