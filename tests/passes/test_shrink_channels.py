"""Cutting: attributes follow their weights, folded and merged constants land where they must."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import shrink
from tests.assertions import assert_same_output
from tests.nets import CASES
from tests.nets.case import named
from tests.random_zeros import randomise

X = torch.randn(2, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", sorted({*sorted(CASES)[::7], "Subclasses", "LayersWithTheirOwnForward"}))
@pytest.mark.parametrize("residual", ["union", "gate"])
def test_layers_say_the_truth_about_their_weights(name: str, residual: str) -> None:
    slim = shrink(CASES[name].model(), CASES[name].example(), residual=residual, verify=False)
    for path, layer in slim.named_modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            per_group = (layer.in_channels // layer.groups, layer.out_channels // layer.groups)
            ends = (layer.in_channels, per_group[1]) if layer.transposed else (layer.out_channels, per_group[0])
            assert tuple(layer.weight.shape[:2]) == ends, path
            assert layer.bias is None or layer.bias.shape == (layer.out_channels,)
        elif isinstance(layer, nn.Linear):
            assert tuple(layer.weight.shape) == (layer.out_features, layer.in_features), path
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            assert layer.running_mean.shape == (layer.num_features,), path


def chain(padding: int, *, bias: bool) -> Any:
    net: Any = named(a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 4, 3, padding=padding, bias=bias))
    randomise(net.double(), 0)
    with torch.no_grad():
        net.a.weight[:3] = 0
        net.a.bias[:3] = torch.tensor([0.5, -2.0, 1.0])
    return net


@pytest.mark.parametrize("bias", [True, False])
def test_without_padding_constants_fold_into_the_bias(bias: bool) -> None:
    model = chain(0, bias=bias)
    slim: Any = shrink(model, X)
    assert_same_output(model, slim, (X,))
    amount = model.b.weight[:, :3].sum((2, 3)) @ model.a.bias[:3]
    torch.testing.assert_close(slim.b.bias, amount + (model.b.bias if bias else 0))
    torch.testing.assert_close(slim.b.weight, model.b.weight[:, 3:])
    assert slim.plan.layers[1].folded == 3 and slim.plan.layers[1].merged == 0


def test_with_padding_they_merge_into_the_largest() -> None:
    model = chain(1, bias=True)
    slim: Any = shrink(model, X)
    assert_same_output(model, slim, (X,))
    weight = model.b.weight
    torch.testing.assert_close(slim.b.weight[:, 0], weight[:, 1] - weight[:, 0] / 4 - weight[:, 2] / 2)
    torch.testing.assert_close(slim.b.weight[:, 1:], weight[:, 3:])
    assert slim.plan.layers[1].merged == 2 and torch.equal(slim.b.bias, model.b.bias)


def test_a_shared_module_is_cut_once() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)
            self.again = self.b
            self.out = nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.again(torch.relu(self.b(self.a(x)))))

    model: Any = randomise(Shared().double(), 0)
    with torch.no_grad():
        for layer in (model.a, model.b):
            layer.weight[[1, 4]], layer.bias[[1, 4]] = 0, 0
        model.b.weight[:, [1, 4]], model.out.weight[:, [1, 4]] = 0, 0
    slim: Any = shrink(model, X)
    assert_same_output(model, slim, (X,))
    assert slim.b.weight.shape == (4, 4, 1, 1) and slim.b is slim.get_submodule("b")
    assert sum(p.numel() for p in slim.parameters()) == 4 * 3 + 4 + 16 + 4 + 8 + 2
