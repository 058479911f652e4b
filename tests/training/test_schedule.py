"""Masks move when an epoch begins, and only then."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import Goal, Gradual, PrunedLayer, Regime, regime_named
from campfire_fx.sparsity.clock import Clock
from tests.sparse_training import assert_resumes, assert_same_state, batches, layer, masks, saved, sparse, train


class EveryStep(Gradual):
    """Masks are chosen as an epoch begins, and after every step."""

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        del now
        for one in layers:
            one.move(self.update)


class AfterEveryStep(EveryStep):
    """Masks are chosen after every step alone."""

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        del layers, now


class TestMasksMove:
    def test_only_when_an_epoch_begins(self) -> None:
        model = sparse()
        optimizer = SGD(model.parameters(), 0.05)
        model.attach(optimizer, steps_per_epoch=3)
        moved, before = [], masks(model)
        for step in train(model, optimizer, batches(21)):
            if any(not torch.equal(now, before[name]) for name, now in masks(model).items()):
                moved.append(step + 1)
            before = masks(model)
        assert moved == [6, 9, 12]  # epochs 2, 3 and 4 of an era from 1 to 4

    @pytest.mark.parametrize("regime", ["combined", "window", "ck", "unstructured", "inter-epoch"])
    def test_computing_them_after_every_step_gives_the_same_run(self, regime: str) -> None:
        """Masks computed when the threshold moves, against masks computed then and after every step."""
        letter, ours = sparse(replace(regime_named(regime), update=EveryStep())), sparse(regime)
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3) for m in (letter, ours))
        letter.attach(first, steps_per_epoch=3)
        ours.attach(second, steps_per_epoch=3)
        for _ in train(letter, first, batches(18)):
            pass
        for _ in train(ours, second, batches(18)):
            pass
        assert ours.sparsity().true > 0.6
        assert_same_state(letter.state_dict(), ours.state_dict())
        assert_same_state(first.state_dict()["state"], second.state_dict()["state"])

    @pytest.mark.parametrize("regime", ["combined", "window", "ck", "unstructured", "inter-epoch", "filter"])
    @pytest.mark.parametrize("by_hand", [False, True])
    def test_after_the_first_update_it_is_the_papers_algorithm(self, regime: str, by_hand: bool) -> None:
        """Campfire, Algorithm 2, to the letter: a step, then masks for the threshold of its epoch, in every step."""
        letter = sparse(replace(regime_named(regime), update=AfterEveryStep()))
        ours = sparse(regime, masks_move="after")
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3) for m in (letter, ours))
        letter.attach(first, steps_per_epoch=3)
        for _ in train(letter, first, batches(18)):
            pass
        ours.attach(second, steps_per_epoch=None if by_hand else 3)
        moved, before = [], masks(ours)
        for epoch in range(6):
            if by_hand:
                ours.epoch(epoch)
            for step in train(ours, second, batches(18)[3 * epoch : 3 * epoch + 3]):
                if any(not torch.equal(now, before[name]) for name, now in masks(ours).items()):
                    moved.append(3 * epoch + step)
                before = masks(ours)
        assert set(moved) <= {6, 9, 12} and moved, "steps, counted from 0, that begin epochs 2, 3 and 4"
        assert ours.sparsity().true > 0.6
        assert_same_state(masks(letter), masks(ours))
        weights = dict(ours.named_parameters())
        assert all(torch.equal(value, weights[name]) for name, value in letter.named_parameters())
        assert_same_state(first.state_dict()["state"], second.state_dict()["state"])

    def test_a_move_that_waits_is_in_the_state(self) -> None:
        """A run stopped as an epoch ends goes on to the bit, and one that was never to wait still does not."""
        assert_resumes(
            lambda seed: sparse(masks_move="after", seed=seed),
            lambda parameters: SGD(parameters, 0.05, momentum=0.9),
            batches(18),
            stop=9,
            steps_per_epoch=3,
        )

    def test_what_waits_is_done_by_finalize_and_by_a_step_by_hand(self) -> None:
        for end in (lambda m: m.finalize(), lambda m: m.step()):
            model = sparse(era=(0, 1), masks_move="after")
            model.epoch(1)
            assert not model.sparsity().zeros
            end(model)
            assert model.sparsity().true > 0.6 and not saved(model)["clock"]["waiting"]

    def test_other_moments_are_refused(self) -> None:
        with pytest.raises(RegimeError, match="masks_move: 'never' is not known. Use 'before' or 'after'"):
            sparse(masks_move="never")

    def test_and_are_not_computed_when_it_does_not(self) -> None:
        asked: list[float] = []

        def rule(_weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
            asked.append(goal.sparsity)
            return torch.ones_like(mask)  # would bring everything back

        model = sparse(Regime("asking", rule, None, None), era=(1, 3), sparsity=0.8, overrides={"conv2": 0})
        mask = torch.ones(8, 6, 3, 3)
        mask[0] = 0
        layer(model, "conv1").set_mask(mask)
        for epoch in (0, 1, 2, 2, 3, 4, 9):
            model.epoch(epoch)
        model.finalize()
        assert asked == [0.8 * 0.875, 0.8]
        assert torch.equal(layer(model, "conv1").mask, mask.bool()), "once zero, always zero, whatever a rule proposes"

    def test_by_eq_1_in_every_epoch(self) -> None:
        model = sparse("unstructured", era=(2, 12), sparsity=0.7)
        for epoch in range(15):
            model.epoch(epoch)
            due = 0.7 * (1 - (1 - min(max(epoch - 2, 0), 10) / 10) ** 3)
            assert model.sparsity().target == pytest.approx(due)
            assert model.sparsity().true == pytest.approx(due, abs=0.01)

    def test_never_back(self) -> None:
        model = sparse()
        model.epoch(4)
        before = masks(model)
        model.epoch(0)
        assert_same_state(masks(model), before)

    def test_finalize_jumps_to_the_end_and_freezes(self) -> None:
        model = sparse(era=(30, 50))
        assert model.finalize() is model
        record = model.sparsity()
        assert record.frozen and record.true == pytest.approx(0.7, abs=0.02) and record.target == pytest.approx(0.7)
        before = masks(model)
        model.epoch(60)
        assert_same_state(masks(model), before)

    def test_the_same_way_every_time(self) -> None:
        states = []
        for _ in range(2):
            model = sparse()
            optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
            model.attach(optimizer, steps_per_epoch=2)
            for _ in train(model, optimizer, batches(10)):
                pass
            states.append(model.state_dict())
        assert_same_state(*states)

    def test_with_a_line_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "campfire_fx"):
            sparse().finalize()
        assert "masks of 4 layers moved; sparsity 0.7" in caplog.text
        assert "(kernels 0.3" in caplog.text and "window 0.5" in caplog.text

    def test_weights_that_are_not_finite_stop_it(self) -> None:
        model = sparse()
        with torch.no_grad():
            layer(model, "conv2").weight[0, 0, 0, 0] = torch.nan
        with pytest.raises(RegimeError, match=r"masks at conv2: its weight is not finite.*Go back to a checkpoint"):
            model.epoch(4)
        assert all(bool(mask.all()) for mask in masks(model).values())
