"""Weights that hooks or parametrizations compute become plain ones, of the same value, in the copy alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from campfire_fx import shrink
from campfire_fx.layers.bake_reparametrizations import bake_reparametrizations
from campfire_fx.shrink.copies import private_copy
from tests.nets.case import conv, named

X = torch.randn(1, 3, 5, 5)


def test_masks_and_parametrizations() -> None:
    model: Any = named(a=conv(3, 4), b=conv(4, 4), c=nn.Conv2d(4, 2, 1))
    prune.random_unstructured(model.a, "weight", 0.5)
    parametrizations.weight_norm(model.b)
    prune.ln_structured(model.c, "weight", 1, n=1, dim=0)
    prune.random_unstructured(model.c, "bias", 1)
    model.eval()
    names, expected = set(model.state_dict()), model(X)
    plain: Any = private_copy(model)
    bake_reparametrizations(plain)
    assert set(plain.state_dict()) == {"a.weight", "b.weight", "c.weight", "c.bias"}
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in plain.parameters())
    assert type(plain.b) is nn.Conv2d and not plain.a._forward_pre_hooks
    torch.testing.assert_close(plain(X), expected)
    assert set(model.state_dict()) == names and parametrize.is_parametrized(model.b) and prune.is_pruned(model.a)
    torch.testing.assert_close(model(X), expected)


def test_other_hooks_stay() -> None:
    model = conv(3, 4)
    model.register_forward_pre_hook(lambda *_: None)
    bake_reparametrizations(model)
    assert len(model._forward_pre_hooks) == 1


def test_hooks_of_weight_and_spectral_norm() -> None:
    model: Any = named(a=weight_norm(conv(3, 4)), b=spectral_norm(conv(4, 4)), c=weight_norm(nn.Linear(5, 2), "bias"))
    model.eval()
    names, expected = set(model.state_dict()), model(X)
    plain: Any = private_copy(model)
    bake_reparametrizations(plain)
    assert set(plain.state_dict()) == {"a.weight", "b.weight", "c.weight", "c.bias"}
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in plain.parameters())
    torch.testing.assert_close(plain(X), expected)
    assert set(model.state_dict()) == names and model.a._forward_pre_hooks
    torch.testing.assert_close(model(X), expected)


def test_filters_of_no_length_are_dead() -> None:
    model: Any = named(a=weight_norm(conv(3, 8)), relu=nn.ReLU(), b=spectral_norm(conv(8, 6)), c=nn.Conv2d(6, 2, 1))
    with torch.no_grad():
        model.a.weight_g[[0, 5]] = 0
        model.b.weight_orig[1] = 0
    slim = shrink(model.eval(), X)
    shapes = {name: tuple(tensor.shape) for name, tensor in slim.state_dict().items()}
    assert shapes["a.weight"] == (6, 3, 3, 3) and shapes["b.weight"] == (5, 6, 3, 3) and len(shapes) == 4
    torch.testing.assert_close(slim(X), model(X))
