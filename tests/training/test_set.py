"""SET: as many weights after every epoch as before, the largest among them, and others in places drawn at random."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.regimes.set import Rewiring, evolutionary
from tests.sparse_training import assert_zero_under_masks, batches, layer, masks, sparse, train

WEIGHT = torch.tensor([5.0, -4.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0])


def test_the_smallest_go_and_as_many_empty_places_are_filled() -> None:
    mask = WEIGHT != 0
    chance = torch.Generator().manual_seed(0)
    found = [Rewiring(0.5).rewired(WEIGHT, mask, chance).tolist() for _ in range(20)]
    assert all(places[:4] == [True, True, False, False] and sum(places[4:]) == 2 for places in found)
    assert len({tuple(places) for places in found}) > 2, "drawn anew each time"
    assert Rewiring(0.0).rewired(WEIGHT, mask, chance).tolist() == mask.tolist()
    assert Rewiring(1.0).rewired(WEIGHT, WEIGHT != 5, chance).sum() == 7, "no more than there are places"


def test_masks_move_with_every_epoch_of_the_era_and_keep_their_counts() -> None:
    model = sparse("set", era=(1, 4), sparsity=0.6)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=2)
    before, moved = masks(model), []
    for step in train(model, optimizer, batches(12)):
        now = masks(model)
        if any(not torch.equal(now[name], before[name]) for name in now):
            moved.append((step + 1) // 2)
            assert not layer(model, "conv1").weight[now["conv1.mask"] & ~before["conv1.mask"]].any()
        assert all(now[name].sum() == before[name].sum() for name in now)
        assert_zero_under_masks(model, optimizer)
        before = now
    assert moved == [1, 2, 3]
    rows = model.finalize().sparsity().layers
    assert sum(row.zeros for row in rows) / sum(row.weights for row in rows) == pytest.approx(0.6, abs=0.005)


def test_an_epoch_that_is_begun_twice_rewires_once() -> None:
    model = sparse("set", era=(0, 4))
    model.epoch(0)
    model.epoch(1)
    other = sparse("set", era=(0, 4))
    other.load_state_dict(model.state_dict())
    for again in (model, other):
        again.epoch(1)
    assert all(torch.equal(mask, masks(other)[name]) for name, mask in masks(model).items())


def test_a_share_is_a_part() -> None:
    with pytest.raises(RegimeError, match=r"zeta: 1.5 is outside \[0, 1\]"):
        evolutionary(1.5)
