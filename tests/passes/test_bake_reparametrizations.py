"""Weights that hooks or parametrizations compute become plain ones, of the same value, in the copy alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from campfire_fx.passes.bake_reparametrizations import bake_reparametrizations
from campfire_fx.passes.copies import private_copy
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
