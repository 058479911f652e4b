"""Sparse models inside other modules ride on the optimizers that hold them."""

from __future__ import annotations

import pytest
from torch import nn
from torch.optim import SGD

from campfire_fx.base.errors import CampfireError
from campfire_fx.training.callbacks.ride import Ride
from tests.sparse_training import Net, assert_zero_under_masks, batches, sparse, train


class Pair(nn.Module):
    """A generator and its critic, say."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = sparse(), sparse("filter", sparsity=0.5)


def test_each_on_its_own() -> None:
    pair = Pair()
    first, second = (SGD(part.parameters(), 0.05, momentum=0.9) for part in (pair.one, pair.two))
    ride = Ride(pair, [first, second])
    numbers = [ride.epoch(epoch) for epoch in (0, 4)]
    assert set(numbers[0].values()) == {0.0}
    assert numbers[1]["one.target_sparsity"] == pytest.approx(0.7)
    assert numbers[1]["two.sparsity"] == pytest.approx(0.5, abs=0.02)
    for part, optimizer in ((pair.one, first), (pair.two, second)):
        for _ in train(part, optimizer, batches(2)):
            assert_zero_under_masks(part, optimizer)


def test_until_the_end() -> None:
    model = sparse("filter", sparsity=0.5)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    ride = Ride(model, [optimizer])
    assert ride.epoch(4).keys() == {"sparsity", "target_sparsity"}
    ride.end()
    for _ in train(model, optimizer, batches(1)):
        pass
    weight, mask = model.get_parameter("stem.weight"), model.get_buffer("stem.mask")
    assert bool(weight.any()) and not optimizer._optimizer_step_post_hooks and bool(mask.all())


@pytest.mark.parametrize(("epochs", "warned"), [(5, False), (4, True), (2, True), (None, False)])
def test_an_era_that_leaves_no_epoch_is_warned_of(
    epochs: int | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = sparse()  # an era from 1 to 4
    Ride(model, [SGD(model.parameters(), 0.1)], epochs=epochs).end()
    told = f"the era (1 to 4) is not over before the last of {epochs} epochs, so that none is left to recover"
    assert (told in caplog.text) == warned and bool(caplog.records) == warned


def test_without_a_sparse_model_it_says_so() -> None:
    with pytest.raises(CampfireError, match="SparseTraining: the Net holds no sparse model. Give it what sparsify ret"):
        Ride(Net(), [])


def test_without_its_optimizer_it_says_so() -> None:
    pair = Pair()
    with pytest.raises(CampfireError, match="no optimizer holds a parameter of the sparse model at 'two'"):
        Ride(pair, [SGD(pair.one.parameters(), 0.1)])
