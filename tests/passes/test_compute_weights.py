"""Weights computed from parameters: once for all graphs, never where that would change what the model does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink, sparsify, trace
from campfire_fx.analysis.captured import Captured
from campfire_fx.passes.compute_weights import compute_weights
from campfire_fx.passes.runner import apply
from campfire_fx.shrink.copies import private_copy
from tests.nets.case import conv, named

X = torch.randn(2, 3, 6, 6)


def computed(model: nn.Module) -> tuple[Captured, list[str]]:
    """Return a capture with its weights computed, and the nodes that were replaced."""
    captured = trace(private_copy(model).eval(), X)
    repairs = apply(captured, compute_weights)
    torch.testing.assert_close(captured.module(X), model.eval()(X))
    return captured, [repair.node for repair in repairs]


class Scaled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * 2.0, self.bias, self.stride, self.padding)


def test_the_value_takes_the_name_of_the_parameter_that_nothing_else_reads() -> None:
    model: Any = named(a=Scaled(3, 4, 3), b=nn.Conv2d(4, 2, 1))
    captured, nodes = computed(model)
    assert nodes == ["a (mul)"] and type(captured.module.get_submodule("a")) is nn.Conv2d
    assert [n.target for n in captured.islands[0].module.graph.find_nodes(op="call_module")] == ["a", "b"]
    torch.testing.assert_close(captured.module.get_parameter("a.weight"), model.a.weight * 2)
    assert captured.module.get_parameter("a.weight").requires_grad


class Twice(nn.Module):
    """Computes the same weight twice; `again`: reads the parameter itself as well."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.a, self.again = conv(3, 3), again

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.conv2d(x, self.a.weight.sign(), padding=1)
        x = x * self.a.weight.shape[0] / self.a.weight.size(2)
        return self.a(x) if self.again else x


def test_equal_computations_share_one_parameter() -> None:
    captured, nodes = computed(Twice(again=False))
    assert nodes == ["sign", "sign 2"] and list(captured.module.state_dict()) == ["a.weight"]
    assert not captured.islands[0].module.graph.find_nodes(op="call_function", target=getattr)


def test_a_weight_that_is_also_read_itself_is_not_doubled() -> None:
    assert computed(Twice(again=True))[1] == []


class Mode(nn.Module):
    """Two graphs: the weight is computed in both."""

    def __init__(self, drop: bool) -> None:
        super().__init__()
        self.a, self.b, self.drop = Scaled(3, 8, 3), conv(8, 2), drop

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.a(x), 0.5, self.training)
        weight = F.dropout(self.b.weight, 0.5, self.training and self.drop)
        return F.conv2d(x, weight)


@pytest.mark.parametrize("drop", [False, True])
def test_a_weight_that_is_drawn_in_training_stays_computed_there(drop: bool) -> None:
    model = Mode(drop)
    with torch.no_grad():
        model.a.weight[:3] = 0
        model.a.bias[:3] = 0
    slim: Any = shrink(model.eval(), X)
    assert slim.train_graph is not None
    assert slim.get_parameter("a.weight").shape[0] == (8 if drop else 5)
    torch.manual_seed(0)
    assert slim.train()(X).shape == model(X).shape


class Drawn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.a.weight + torch.randn_like(self.a.weight))


class Moving(nn.Module):
    """Writes to a buffer that its weight is computed from, in every call."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv(3, 3)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.scale.mul_(1.0)
        return F.conv2d(x, self.a.weight * self.scale)


class Late(nn.Module):
    """Writes to the weight that it has computed, through a view, between two uses."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.a.weight * 1.5
        x = F.conv2d(x, weight)
        weight.view(-1).mul_(2)
        return F.conv2d(x, weight)


@pytest.mark.parametrize("net", [Drawn, Moving, Late])
def test_what_draws_or_writes_is_left_as_it_is(net: type[nn.Module]) -> None:
    captured = trace(net().eval(), X)
    names = [node.name for node in captured.islands[0].module.graph.nodes]
    assert apply(captured, compute_weights) == ()
    assert [node.name for node in captured.islands[0].module.graph.nodes] == names


class Written(nn.Module):
    """A computed weight that is written to under another name."""

    def __init__(self, write: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.a, self.write = conv(3, 3), write

    def forward(self, x: Tensor) -> Tensor:
        weight = self.a.weight * 2
        self.write(weight)
        return F.conv2d(x, weight, padding=1)


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.data.mul_(3),
        lambda w: w.data.copy_(w.sign()),
        lambda w: operator.setitem(w.data, 0, 5.0),
        lambda w: w.detach().add_(1),
        lambda w: w.to(torch.float32).mul_(3),
        lambda w: w.float().add_(1),
        lambda w: w[1:].fill_(2),
    ],
)
def test_a_weight_that_is_written_to_under_another_name_is_left_as_it_is(write: Callable[[Tensor], object]) -> None:
    assert computed(Written(write))[1] == []


class Regions(nn.Module):
    """A mask of regions, as shifted windows have: made on the input's device and filled piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros((1, 1, 6, 6), device=x.device)
        for number, rows in enumerate((slice(-2), slice(-2, None))):
            mask[:, :, rows] = number
        return self.a(x) + mask


def test_what_is_written_into_a_tensor_made_of_nothing_stays() -> None:
    assert computed(Regions())[1] == []


def test_the_model_given_and_the_random_state_stay() -> None:
    model = named(a=Scaled(3, 4, 3), b=nn.Conv2d(4, 2, 1))
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    apply(trace(private_copy(model), X), compute_weights)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_while_an_optimizer_goes_on_the_computation_stays() -> None:
    model = named(a=Scaled(3, 4, 3), b=nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    slim = shrink(model, X, optimizer=optimizer)
    assert any("its weight is computed" in pin.reason for pin in slim.plan.pins)
    assert not shrink(model, X).plan.pins[:-1]


def test_sparsify_says_why_such_a_weight_has_no_mask() -> None:
    sparse = sparsify(named(a=conv(3, 4), b=Scaled(4, 4, 3), c=conv(4, 2)), "ck", example_inputs=X)
    assert dict(sparse.sparsity().unmasked)["b.weight"] == (
        "a weight is computed from it, and zeros in it need not be zeros there"
    )
