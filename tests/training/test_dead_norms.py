"""A dead filter takes its norm along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    IMAGE,
    Net,
    batches,
    layer,
    sparse,
    train,
)


class TestDeadNorms:
    def trained(self, steps: int = 6, **wishes: Any) -> tuple[SparseModel, Optimizer]:
        model = sparse("filter", era=(0, 2), sparsity=0.5, **wishes)
        optimizer = AdamW(model.parameters(), 1e-2)
        model.attach(optimizer, steps_per_epoch=2)
        for _ in train(model, optimizer, batches(steps)):
            pass
        return model, optimizer

    def test_a_dead_channel_is_exactly_zero(self) -> None:
        model, optimizer = self.trained()
        dead = (layer(model, "conv1").live_filters() == 0).nonzero().flatten()
        assert len(dead) == 4
        norm, bias = model.get_submodule("bn1"), layer(model, "conv1").bias
        for tensor in (norm.weight, norm.bias, norm.running_mean, bias):
            assert isinstance(tensor, Tensor)
            assert not tensor[dead].any() and bool(tensor.any())
            for state in optimizer.state.get(tensor, {}).values():
                assert state.dim() == 0 or not state[dead].any()
        seen: list[Tensor] = []
        norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        for mode in (True, False):
            model.train(mode)(torch.randn(4, 3, 8, 8))
        assert not any(output[:, dead].any() for output in seen)

    def test_an_infinite_gradient_of_a_dead_channel_reaches_no_optimizer(self) -> None:
        model, _ = self.trained()
        dead, bias = layer(model, "conv1").live_filters() == 0, model.get_submodule("bn1").bias
        assert isinstance(bias, Tensor)
        bias.grad = None
        bias.backward(torch.where(dead, torch.inf, 1.0))
        assert bias.grad is not None and torch.equal(bias.grad, (~dead).float())

    def test_keep_leaves_the_norm_alone(self) -> None:
        model, _ = self.trained(dead_norm="keep")
        dead = layer(model, "conv1").live_filters() == 0
        norm = model.get_submodule("bn1")
        assert isinstance(norm.bias, Tensor) and bool(norm.bias[dead].all())

    def test_a_bias_without_a_norm_is_left_alone(self) -> None:
        model, _ = self.trained()
        point = layer(model, "point")
        dead = point.live_filters() == 0
        assert bool(dead.any()) and isinstance(point.bias, Tensor) and bool(point.bias[dead].all())

    def test_a_dense_state_dict_has_its_norms_zeroed_too(self) -> None:
        model, _ = self.trained()
        dense = Net()
        nn.init.ones_(dense.bn1.bias)
        model.load_state_dict(dense.state_dict())
        dead = layer(model, "conv1").live_filters() == 0
        assert not model.get_submodule("bn1").bias[dead].any()

    def test_a_norm_of_two_convolutions_dies_with_both(self) -> None:
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(3, 4, 1)
                self.a, self.b, self.norm = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

            def forward(self, x: Tensor) -> Tensor:
                x = self.stem(x)
                return self.norm(self.a(x)) + self.norm(self.b(x))

        model = sparsify(Shared(), "ck", example_inputs=IMAGE)
        norm = model.get_submodule("norm")
        assert isinstance(norm.weight, Tensor)
        for name, rows in (("a", [0, 1]), ("b", [1, 2])):
            mask = torch.ones(4, 4, 3, 3)
            mask[rows] = 0
            model.set_mask(name, mask)
            if name == "a":
                assert bool(norm.weight.all()), "one convolution alone kills no channel of the norm"
        assert norm.weight.tolist() == [1, 0, 1, 1]
        assert [bool(layer(model, name).bias.detach()[1]) for name in "ab"] == [False, False]
