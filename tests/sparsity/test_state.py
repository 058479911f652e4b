"""The clock, the state of a layer, and the methods on layers that belong to no model."""

from __future__ import annotations

import torch

from campfire_fx.sparsity import ELEMENT, WITHIN_LAYER, Admm, Cut, DenseWeights, Gradual, Stages, TopK, largest
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.exchange import Exchanging
from campfire_fx.sparsity.regimes.rigl import DropGrow
from tests.sparsity.alone import lone, masked

CUT = Cut(ELEMENT, largest, WITHIN_LAYER)
WEIGHT = torch.tensor([4.0, -3.0, 2.0, -1.0]).view(1, 4, 1)


def test_steps_make_epochs() -> None:
    clock = Clock(steps_per_epoch=3)
    assert [clock.tick() for _ in range(7)] == [False, False, True, False, False, True, False]
    assert (clock.epoch, clock.step) == (2, 1)


def test_without_a_length_steps_are_not_counted() -> None:
    clock = Clock()
    assert not any(clock.tick() for _ in range(5))
    assert (clock.epoch, clock.step) == (0, 0)


def test_a_layer_moves_when_its_threshold_does() -> None:
    layer = lone(torch.randn(4, 4, 9), CUT, Gradual(), 0.7)
    moved = []
    for layer.clock.epoch in range(7):
        before = layer.mask._version
        Gradual().epoch([layer], layer.clock)
        moved.append(layer.mask._version != before)
        assert layer.state.reached in (None, layer.due)
    assert moved == [False, True, True, True, True, False, False]


def test_a_frozen_layer_is_due_in_full_and_a_mask_made_by_hand_is_left_alone() -> None:
    layer = lone(WEIGHT, CUT, Gradual(), frozen=True)
    assert layer.rises and layer.due == 0.5 and not layer.moves and not layer.in_era
    layer.state.by_hand = True
    assert not layer.rises
    Gradual().finish([layer], layer.clock)
    assert layer.mask.all()


def test_weights_change_places_where_the_gradient_is_open() -> None:
    method = Exchanging(DropGrow(period=2, fraction=1.0))
    layer = lone(WEIGHT, CUT, method, schedule=Stages(0, 4), updates=2)
    layer.set_mask(WEIGHT.abs() > 2)
    layer.module.weight.grad = torch.tensor([1.0, 2.0, 9.0, 8.0]).view(1, 4, 1)
    method.before_step([layer], layer.clock)
    assert masked(layer) == [True, True, False, False], "not announced"
    method.after_step([layer], layer.clock)
    method.before_step([layer], layer.clock)
    assert masked(layer) == [False, False, True, True] and layer.module.masks_gradient
    layer.clock.updates = 3
    method.after_step([layer], layer.clock)
    assert layer.module.masks_gradient


def test_admm_draws_a_weight_and_lets_it_go() -> None:
    method = Admm(rho=0.5)
    layer = lone(WEIGHT, CUT, method, schedule=Stages(0, 2))
    method.epoch([layer], layer.clock)
    assert layer.module.carried["admm_z"].flatten().tolist() == [4, -3, 0, 0] and layer.mask.all()
    layer.module.weight.grad = torch.zeros_like(WEIGHT)
    method.before_step([layer], layer.clock)
    assert layer.module.weight.grad.flatten().tolist() == [0, 0, 1, -0.5]
    layer.clock.epoch = 2
    method.epoch([layer], layer.clock)
    assert masked(layer) == [True, True, False, False] and not layer.module.carried


def test_dense_weights_come_back_until_the_end() -> None:
    method = DenseWeights(period=1)
    layer = lone(WEIGHT, TopK(ELEMENT, largest), method, schedule=Stages(0, 0))
    method.begin([layer], layer.clock)
    method.epoch([layer], layer.clock)
    assert layer.trains_dense and masked(layer) == [True, True, False, False]
    layer.module.weight.data[0, 3] = 9
    method.after_step([layer], layer.clock)
    assert masked(layer) == [True, False, False, True]
    layer.clock.frozen = True
    method.finish([layer], layer.clock)
    assert not layer.trains_dense and layer.weight.flatten().tolist() == [4, 0, 0, 9]
