"""Drop and grow: weights change places in the era, as many as before, and the gradient under the mask is seen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity import ELEMENT, WITHIN_LAYER, Cut, Goal, Moment, at_random, rigl
from campfire_fx.sparsity.regimes.rigl import DropGrow
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    OPTIMIZERS,
    assert_resumes,
    assert_zero_under_masks,
    batches,
    layer,
    masks,
    sparse,
    train,
)

ERA = (1, 3)  # of epochs of four steps
STEPS = 4
PERIOD = 3


def trained(steps: int, **wishes: object) -> tuple[SparseModel, SGD]:
    model = sparse(rigl(PERIOD), era=ERA, sparsity=0.6, **wishes)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    model.attach(optimizer, steps_per_epoch=STEPS)
    for _ in train(model, optimizer, batches(steps)):
        pass
    return model, optimizer


def living(model: SparseModel) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks(model).items()}


def test_masks_move_every_period_within_the_era_and_keep_their_counts() -> None:
    model = sparse(rigl(PERIOD), era=ERA, sparsity=0.6)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=STEPS)
    before, counts, moved = masks(model), living(model), []
    for step in train(model, optimizer, batches(16)):
        now = masks(model)
        if any(not torch.equal(now[name], before[name]) for name in now):
            moved.append(step)
        before = now
        assert living(model) == counts
        assert_zero_under_masks(model, optimizer)
    assert moved == [6, 9], "steps 3, 12 and 15 are outside the era of steps 4 to 11"
    weights = sum(mask.numel() for mask in before.values())
    assert 1 - sum(counts.values()) / weights == pytest.approx(0.6, abs=len(counts) / weights)


def test_what_grows_had_the_largest_gradient_and_what_dies_the_smallest_weight() -> None:
    update = DropGrow(period=1, fraction=0.5)
    weight = torch.tensor([[[4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0]]])
    gradient = torch.tensor([[[0.0, 0.0, 0.0, 5.0, 1.0, -9.0, 2.0, -3.0]]])
    mask = weight != 0
    at_first = update.exchange(weight, gradient, mask, Moment(0.0, 1))
    assert at_first.flatten().tolist() == [True, True, False, True, False, True, False, False]
    halfway = update.exchange(weight, gradient, mask, Moment(0.5, 1))  # a quarter: one of four
    assert halfway.flatten().tolist() == [True, True, True, False, False, True, False, False]
    assert torch.equal(update.exchange(weight, gradient, mask, Moment(1.0, 1)), mask)


def test_the_fraction_follows_half_a_cosine_over_the_era() -> None:
    seen: list[Moment] = []

    class Watching(DropGrow):
        def exchange(self, weight: Tensor, gradient: Tensor, mask: Tensor, moment: Moment) -> Tensor:
            assert gradient[~mask].any(), "the gradient under the mask was zeroed"
            seen.append(moment)
            return super().exchange(weight, gradient, mask, moment)

    model = sparse(replace(rigl(), update=Watching(2)), era=ERA, overrides={"fc": 0.5, "conv2": 0.5})
    optimizer = SGD(model.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch=STEPS)
    for _ in train(model, optimizer, batches(14)):
        pass
    layers = sum(not row.reason for row in model.sparsity().layers)
    assert [moment.step for moment in seen[::layers]] == [4, 6, 8, 10]
    assert [moment.progress for moment in seen[::layers]] == [0.0, 0.25, 0.5, 0.75]


def test_gradients_are_whole_only_before_an_exchange_and_the_step_sees_the_new_mask() -> None:
    model, optimizer = trained(6)  # step 6 exchanges
    x, y = batches(7)[6]
    conv = layer(model, "conv1")
    old = conv.mask.clone()
    assert not conv.masks_gradient
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    assert conv.weight.grad is not None and conv.weight.grad[~old].any()
    optimizer.step()
    grown = conv.mask & ~old
    assert grown.any() and conv.weight.detach()[grown].all(), "what grew has taken its first step"
    assert not conv.weight.detach()[~conv.mask].any() and not conv.weight.grad[~conv.mask].any()
    assert conv.masks_gradient


def test_a_loop_without_attach_exchanges_as_often() -> None:
    expected, _ = trained(12)
    model = sparse(rigl(PERIOD), era=ERA, sparsity=0.6)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    model.train()
    model.epoch(0)
    for step, (x, y) in enumerate(batches(12)):
        if step and step % STEPS == 0:
            model.epoch(step // STEPS)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        model.before_step()
        optimizer.step()
        model.step()
    # the fraction is known to the epoch alone, and momentum is not cleared: places differ, counts and times do not
    assert living(model) == living(expected)
    assert any(not torch.equal(a, b) for a, b in zip(masks(model).values(), first_masks().values(), strict=True))


def first_masks() -> dict[str, Tensor]:
    return masks(trained(0)[0])


def test_a_resumed_run_sees_the_same_exchange() -> None:
    assert_resumes(
        lambda seed: sparse(rigl(PERIOD), era=ERA, sparsity=0.6, seed=seed),
        OPTIMIZERS["sgd-momentum"],
        batches(9),
        stop=6,
        steps_per_epoch=STEPS,
    )


def test_a_gradient_that_is_not_finite_waits() -> None:
    model, optimizer = trained(6)
    before = masks(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    model.before_step()
    assert all(torch.equal(mask, before[name]) for name, mask in masks(model).items())
    conv = layer(model, "conv1")
    assert not conv.masks_gradient and conv.weight.grad is not None
    assert not conv.weight.grad[~conv.mask].any(), "the optimizer sees nothing of it under the mask"
    assert conv.weight.grad[conv.mask].isinf().all()
    optimizer.zero_grad()


def test_norms_of_dead_filters_stay_since_filters_come_back() -> None:
    model = sparse(rigl(PERIOD), era=ERA, sparsity=0.95)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=STEPS)
    for _ in train(model, optimizer, batches(8)):
        pass
    dead = ~layer(model, "conv1").mask.flatten(1).any(1)
    assert dead.any() and model.get_parameter("bn1.weight")[dead].all()


def test_a_mask_of_ones_own_does_not_move() -> None:
    model, optimizer = trained(6)
    mine = torch.rand(layer(model, "conv1").mask.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    model.set_mask("conv1", mine)
    assert layer(model, "conv1").masks_gradient
    for _ in train(model, optimizer, batches(3)):
        pass
    assert torch.equal(layer(model, "conv1").mask, mine)


@pytest.mark.parametrize("wrong", [{"period": 0}, {"period": 2.5}, {"fraction": 1.5}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RegimeError, match=r"DropGrow\(period=.*give a period of 1 step or more"):
        DropGrow(**wrong)


def test_an_unmasked_layer_forgets_it() -> None:
    model, _ = trained(6)
    slim = model.finalize().eval().shrink()
    assert not any(isinstance(module, MaskedLayer) for module in slim.modules())
    assert all("masks_gradient" not in vars(module) for module in slim.modules())
    assert isinstance(slim, nn.Module)


def drawn(seed: int) -> list[Tensor]:
    """The first masks of two layers of equal size."""
    model = sparsify(
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)),
        "rigl",
        sparsity=0.6,
        example_inputs=torch.zeros(1, 4, 9, 9),
    )
    torch.manual_seed(seed)
    model.epoch(0)
    return [layer(model, name).mask.clone() for name in ("1", "2")]


def test_the_first_mask_is_drawn_anew_for_each_layer_and_seed() -> None:
    first, second = drawn(0)
    assert first.shape == second.shape and first.sum() == second.sum()
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(drawn(0), (first, second), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn(1), (first, second), strict=True))


def test_a_mask_that_is_drawn_stays_when_it_is_asked_for_again() -> None:
    rule = Cut(ELEMENT, at_random, WITHIN_LAYER)
    weight, goal = torch.randn(6, 5, 9), Goal(0.5, 0.5)
    mask = rule(weight, torch.ones_like(weight, dtype=torch.bool), goal)
    assert int(mask.sum()) == 135
    assert torch.equal(rule(weight + 1, mask, goal), mask)
