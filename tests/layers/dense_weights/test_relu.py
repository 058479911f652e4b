"""PackedReLU: torch's values and gradients, with one bit kept for each element."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.layers.dense_weights import PackedReLU, pack_relus, unpack_relus


def packed(inplace: bool = False) -> nn.Module:
    model = nn.Sequential(nn.ReLU(inplace))
    pack_relus(model)
    return model[0]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_torchs(inplace: bool, dtype: torch.dtype) -> None:
    x = torch.tensor([-1.0, 0.0, 2.0, float("inf"), -0.0, 3.0, -5.0, 1e-30, 4.0], dtype=dtype, requires_grad=True)
    dy = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, float("inf"), 8.0, 9.0], dtype=dtype)
    results = []
    for module in (packed(inplace), nn.ReLU(inplace)):
        y = module(x * 1)
        results.append((y, *torch.autograd.grad(y, x, dy)))
    assert all(torch.equal(mine, torchs) for mine, torchs in zip(*results, strict=True))


def test_it_keeps_a_bit_for_each_element() -> None:
    saved: list[Tensor] = []
    x = torch.randn(4, 8, 5, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        packed()(x)
    assert sum(t.nbytes for t in saved) == x.numel() // 8


def test_evaluation_is_torchs_own() -> None:
    x = torch.randn(5, requires_grad=True)
    y = packed().eval()(x)
    assert torch.equal(y, x.relu()) and "Bit" not in type(y.grad_fn).__name__


def test_it_is_made_of_every_nn_relu_and_of_nothing_else_and_unmade() -> None:
    class Own(nn.ReLU):
        pass

    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(True)), Own(), nn.ReLU6())
    before = [type(m) for m in model.modules()]
    pack_relus(model)
    assert [isinstance(m, PackedReLU) for m in (model[0], model[1][0], model[2], model[3])] == [1, 1, 0, 0]
    assert isinstance(pickle.loads(pickle.dumps(copy.deepcopy(model[0]))), PackedReLU)
    unpack_relus(model)
    assert [type(m) for m in model.modules()] == before
