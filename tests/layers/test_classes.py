"""Another class for a module that exists: it stays the same object, whoever leads to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import sparsify
from campfire_fx.layers.classes import change_class
from campfire_fx.layers.dense_weights import keep_dense_weights, release_dense_weights
from campfire_fx.layers.masked import mask_layer, unmask_layer


class Sharded:
    """In the place of FSDPModule, which FSDP2 puts over a layer's class."""


def test_a_class_made_over_one_of_the_table_is_made_over_the_other() -> None:
    layer = mask_layer(nn.Conv2d(2, 2, 1))
    layer.__class__ = type("ShardedConv2d", (Sharded, type(layer)), {"added": 3})
    for change in (keep_dense_weights, release_dense_weights, unmask_layer):
        change(layer)
        assert isinstance(layer, Sharded) and type(layer).__name__ == "ShardedConv2d" and layer.added == 3
    assert type(layer).__bases__ == (Sharded, nn.Conv2d)


def test_a_class_that_the_table_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError, match="Linear"):
        change_class(nn.Linear(1, 1), {nn.Conv2d: nn.Conv1d})


def test_hooks_mode_and_tensors_stay() -> None:
    plain, seen = nn.Conv2d(2, 2, 1).eval(), []
    handle = plain.register_forward_hook(lambda *_: seen.append(1))
    weight = plain.weight
    for change in (mask_layer, keep_dense_weights, release_dense_weights, unmask_layer):
        layer: Any = change(plain)
        assert layer in (plain, None) and plain.weight is weight and not plain.training
        plain(torch.randn(1, 2, 3, 3))
    handle.remove()
    plain(torch.randn(1, 2, 3, 3))
    assert seen == [1] * 4


class Follows(nn.Module):
    """Decides by data, so that it stays Python; the layer that it calls is registered elsewhere."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.held = [layer]

    def forward(self, x: Tensor) -> Tensor:
        return self.held[0](x) if float(x.detach().sum()) > -1e9 else x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.follows = Follows(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.follows(F.relu(self.conv(F.relu(self.stem(x)))))


@pytest.mark.parametrize("regime", ["filter", "swat-u"])
def test_code_that_is_in_no_graph_calls_what_a_layer_has_become(regime: str) -> None:
    x = torch.randn(2, 3, 6, 6)
    sparse: Any = sparsify(Net(), regime, sparsity=0.5, era=(0, 2), example_inputs=x)
    sparse.epoch(1)
    weight = sparse.conv.weight * sparse.conv.mask
    assert 0 < int(sparse.conv.mask.sum()) < weight.numel()
    y = F.relu(F.conv2d(F.relu(sparse.stem(x)), weight, sparse.conv.bias, padding=1))
    torch.testing.assert_close(sparse.eval()(x), F.conv2d(y, weight, sparse.conv.bias, padding=1))
    assert sparse.follows.held[0] is sparse.conv
