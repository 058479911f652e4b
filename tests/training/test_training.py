"""Zeros stay zero under every optimizer, and masks ride on its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer

from campfire_fx.base.errors import RegimeError
from tests.sparse_training import (
    OPTIMIZERS,
    PRUNED,
    Net,
    assert_same_state,
    assert_zero_under_masks,
    batches,
    layer,
    masks,
    sparse,
    train,
)


class TestZerosStayZero:
    @pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_for_fifty_steps(self, make: Callable[[Any], Optimizer]) -> None:
        model = sparse(era=(0, 4))
        optimizer = make(model.parameters())
        model.attach(optimizer, steps_per_epoch=8)
        before = masks(model)
        for _ in train(model, optimizer, batches(50)):
            assert_zero_under_masks(model, optimizer)
            now = masks(model)
            assert all(bool((now[name] <= before[name]).all()) for name in now), "once zero, always zero"
            before = now
        assert model.sparsity().frozen and model.sparsity().true == pytest.approx(0.7, abs=0.02)
        for name in PRUNED:
            state = optimizer.state[layer(model, name).weight]
            assert any(value.any() for value in state.values() if value.dim()), "live weights go on training"

    def test_a_step_by_hand_does_the_same(self) -> None:
        attached, by_hand = sparse(), sparse()
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9) for m in (attached, by_hand))
        attached.attach(first, steps_per_epoch=3)
        for _ in train(attached, first, batches(12)):
            pass
        for epoch in range(4):
            by_hand.epoch(epoch)
            for _ in train(by_hand, second, batches(12)[3 * epoch : 3 * epoch + 3]):
                by_hand.step()
        by_hand.epoch(4)
        # Momentum under the masks is the only difference: by hand the optimizer is not known.
        assert_same_state(masks(attached), masks(by_hand))
        weights = dict(by_hand.named_parameters())
        assert all(torch.equal(value, weights[name]) for name, value in attached.named_parameters())

    def test_without_masks_put_back_momentum_moves_them(self) -> None:
        """The reason for the hook; and the proof that the tests above can fail."""
        model = sparse(era=(0, 0))
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        for _ in train(model, optimizer, batches(3)):
            pass
        model.epoch(0)
        for _ in train(model, optimizer, batches(1)):
            pass
        conv = layer(model, "conv1")
        assert conv.weight[~conv.mask].any()

    def test_detaching_stops_it(self) -> None:
        model = sparse(era=(0, 0))
        optimizer = SGD(model.parameters(), 0.05)
        model.attach(optimizer, steps_per_epoch=2).remove()
        for _ in train(model, optimizer, batches(5)):
            pass
        assert model.sparsity().epoch == 0


class TestAttach:
    def test_an_optimizer_of_the_original_is_refused(self) -> None:
        with pytest.raises(
            RegimeError, match=r"attach: the SGD holds no parameter of this sparse model. Build it from"
        ):
            sparse().attach(SGD(Net().parameters(), 0.1))

    @pytest.mark.parametrize("steps", [0, -3, 2.5, True])
    def test_steps_that_are_no_count_are_refused(self, steps: Any) -> None:
        model = sparse()
        with pytest.raises(RegimeError, match=r"attach: steps_per_epoch=.* is not a count. Give len"):
            model.attach(SGD(model.parameters(), 0.1), steps)

    def test_only_one_optimizer_counts(self) -> None:
        model = sparse()
        convs = SGD([p for p in model.parameters() if p.dim() == 4], 0.1)
        rest = SGD([p for p in model.parameters() if p.dim() != 4], 0.1)
        model.attach(convs, steps_per_epoch=2)
        with pytest.raises(RegimeError, match="attach: the steps of another optimizer are counted already"):
            model.attach(rest, steps_per_epoch=2)
        model.attach(rest)
        for _ in range(2):
            convs.step()
            rest.step()
        assert model.sparsity().epoch == 1

    def test_attaching_again_replaces(self) -> None:
        model = sparse()
        optimizer = SGD(model.parameters(), 0.1)
        for _ in range(3):
            model.attach(optimizer, steps_per_epoch=2)
        for _ in range(2):
            optimizer.step()
        assert model.sparsity().epoch == 1

    @pytest.mark.parametrize("epoch", [-1, 1.5, "3", True, None])
    def test_an_epoch_that_is_none_is_refused(self, epoch: Any) -> None:
        with pytest.raises(RegimeError, match=r"is not an epoch. Give a whole number, counted from 0"):
            sparse().epoch(epoch)
