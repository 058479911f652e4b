"""Custom functions are element-wise where a run proves it, and nothing else is taken for one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx import shrink
from campfire_fx.analysis.function_call import FunctionCall
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.proof import is_candidate, is_pointwise
from campfire_fx.analysis.rules.record import Call
from campfire_fx.analysis.rules.structure import Structure

SCALE = torch.rand(2, 3, 5, 7)
NUMBER = torch.tensor(0.5)


def _function(forward: Callable[..., Any]) -> FunctionCall:
    """Return an autograd.Function with this forward, as graphs hold it."""
    kind = type("Made", (torch.autograd.Function,), {"forward": staticmethod(lambda ctx, *args: forward(*args))})
    return FunctionCall(kind)


def _call(target: Any, *args: Any) -> Call:
    node = fx.Graph().call_function(target)
    return Call(node, target, None, args, {}, Structure(), lambda _: None)


def _activation(*shape: int) -> Labelled:
    return Labelled(torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x * torch.sigmoid(x),
        lambda x: F.hardswish(x) + F.logsigmoid(x),
        lambda x: torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x)),
        lambda x: x.clamp(-1, 1) * NUMBER,
        lambda x: x.clone().mul_(2).add_(1),
        lambda x: x.float().double().to(x.dtype),
    ],
)
def test_element_wise_forwards_are_proven(forward: Callable[..., Any]) -> None:
    assert is_pointwise(_call(_function(forward), _activation(2, 4, 6, 6)))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x - x.mean(1, keepdim=True),
        lambda x: x.softmax(1),
        lambda x: x.flip(1),
        lambda x: x.cumsum(1),
        lambda x: x * SCALE,  # of the shape of what is watched, and not from the arguments
        lambda x: x * torch.rand_like(x),
        lambda x: x + torch.ones(7, dtype=x.dtype),
        lambda x: x if bool(x.max() > 100) else x * 2,
        lambda x: x.mul_(2),
        lambda x: (x, x),
        lambda x: x.sum(),
        lambda x: x.unknown(),
    ],
)
def test_other_forwards_are_not(forward: Callable[..., Any]) -> None:
    state = torch.get_rng_state()
    assert not is_pointwise(_call(_function(forward), _activation(2, 4, 6, 6)))
    assert torch.equal(torch.get_rng_state(), state)


def test_several_activations_must_have_one_shape() -> None:
    total = _function(lambda x, y: x + y)
    assert is_pointwise(_call(total, _activation(2, 4), _activation(2, 4)))
    assert not is_pointwise(_call(total, _activation(2, 4), _activation(1, 4)))
    assert not is_pointwise(_call(total, _activation(2, 4), torch.ones(2, 4)))
    assert not is_pointwise(_call(total, 1.0, 2.0))


def test_only_functions_of_the_users_are_tried() -> None:
    graph = fx.Graph()
    assert is_candidate(graph.call_function(_function(torch.relu)))
    assert not is_candidate(graph.call_function(torch.bincount))
    assert not is_candidate(graph.call_method("bincount"))


class _Tripled(torch.autograd.Function):
    """Nothing forwards, three times the gradient backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 3 * grad


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.tripled = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 1), _Tripled.apply

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.tripled(self.a(x)))


def test_a_slim_model_trains_with_the_functions_own_gradient() -> None:
    x, net = torch.randn(2, 3, 8, 8), _Net()
    with torch.no_grad():
        net.a.weight[:3] = 0
    slim = shrink(net, x)
    (kept, *_) = slim.plan.keep["a.weight"]
    assert kept == (3, 4, 5, 6, 7)
    for model in (net, slim):
        model.train()(x).square().sum().backward()
    weight: Any = slim.get_submodule("a").weight
    assert torch.allclose(weight.grad, net.a.weight.grad[3:], rtol=1e-4, atol=1e-4)
    plain = copy.deepcopy(net)
    plain.zero_grad()
    plain.tripled = nn.Identity()
    plain(x).square().sum().backward()
    assert torch.allclose(weight.grad, 3 * plain.a.weight.grad[3:], rtol=1e-4, atol=1e-4)
