"""Baking: plain layers, the same output, the same parameters."""

from __future__ import annotations

import torch
from torch import fx, nn

from campfire_fx.layers.bake_masks import bake_masks, baked_copy
from campfire_fx.layers.dressing import Dress, dress
from campfire_fx.layers.masked import MaskedLayer, mask_layer


def sparse() -> fx.GraphModule:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2))
    graph = fx.symbolic_trace(model)
    for name in ("0", "3"):
        layer = mask_layer(graph.get_submodule(name))
        layer.set_mask(torch.rand_like(layer.weight) > 0.5)
    return graph


def test_baking_leaves_plain_layers_with_zeros() -> None:
    model, x = sparse().eval(), torch.randn(2, 3, 6, 6)
    expected, zeros = model(x), [p == 0 for p in model.parameters()]
    bake_masks(model)
    assert [type(m) for m in model.modules()][1:] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.ConvTranspose2d]
    assert torch.equal(model(x), expected)
    assert all(torch.equal(p == 0, zero) for p, zero in zip(model.parameters(), zeros, strict=True))
    assert not any("mask" in name for name in model.state_dict())


def test_a_baked_copy_has_new_modules_over_the_same_parameters() -> None:
    class Coat(Dress):
        pass

    model, x = dress(sparse(), Coat, {"pocket": 1}).eval(), torch.randn(2, 3, 6, 6)
    baked = baked_copy(model)
    assert torch.equal(baked(x), model(x))
    assert [id(p) for p in baked.parameters()] == [id(p) for p in model.parameters()]
    assert not isinstance(baked, Coat) and isinstance(baked, fx.GraphModule)
    assert not any(isinstance(module, MaskedLayer) for module in baked.modules())
    layer = model.get_submodule("0")
    assert isinstance(model, Coat) and isinstance(layer, MaskedLayer), "the sparse model stays as it was"
    model(x).sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad != 0, layer.mask)
