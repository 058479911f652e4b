"""Rewinding: lottery tickets against loops of their own, resumed runs, and learning rates that go back alone."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from math import ceil
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from campfire_fx import Rewinding
from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import Rounds, lottery_ticket
from campfire_fx.training.model import SparseModel
from campfire_fx.training.rewinding import longest_training, rewinding_of
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import assert_same_state, batches, masks, sparse

STEPS, EPOCHS, ROUNDS, SPARSITY = 3, 8, 3, 0.7
ERA = (0, 6)  # a round is two epochs
DATA = batches(STEPS * EPOCHS)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def small() -> Small:
    torch.manual_seed(5)
    return Small()


def parts(model: nn.Module) -> tuple[SGD, CosineAnnealingLR]:
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    return optimizer, CosineAnnealingLR(optimizer, 4)


def step(model: nn.Module, optimizer: SGD, batch: tuple[Tensor, Tensor]) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


class Run:
    """The library's own, epoch by epoch."""

    def __init__(self, to: int = 0, **wishes: Any) -> None:
        wish: dict[str, Any] = {"sparsity": SPARSITY, "era": ERA, "prune_stem": True}
        regime = lottery_ticket(ROUNDS, to)
        self.model = sparsify(small(), regime, example_inputs=torch.zeros(1, 3, 8, 8), **wish).train()
        self.optimizer, self.scheduler = parts(self.model)
        self.model.attach(self.optimizer, steps_per_epoch=STEPS)
        self.rewinding = Rewinding(self.model, self.optimizer, self.scheduler, **wishes)
        self.rates: list[float] = []
        self.back: list[int] = []

    def epochs(self, first: int, last: int = EPOCHS) -> Iterator[int]:
        for epoch in range(first, last):
            if self.rewinding.epoch():
                self.back.append(epoch)
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            for batch in DATA[epoch * STEPS : (epoch + 1) * STEPS]:
                step(self.model, self.optimizer, batch)
            self.scheduler.step()
            yield epoch

    def run(self) -> Run:
        for _ in self.epochs(0):
            pass
        return self

    def state(self) -> dict[str, Any]:
        everything = (self.model, self.optimizer, self.scheduler, self.rewinding)
        return {str(i): copy.deepcopy(one.state_dict()) for i, one in enumerate(everything)}

    def load(self, state: dict[str, Any]) -> None:
        for i, one in enumerate((self.model, self.optimizer, self.scheduler, self.rewinding)):
            one.load_state_dict(state[str(i)])


def by_loops(to: int) -> tuple[nn.Module, list[Tensor], list[float]]:
    """Iterative pruning with rewinding, as the papers have it, on a dense model and with masks as lists of bools."""
    model = small()
    weights = [model.conv.weight, model.fc.weight]
    kept = [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    optimizer, scheduler = parts(model)
    early: dict[str, Any] = {}
    rates = []
    for epoch in range(EPOCHS):
        if epoch == to:
            early = copy.deepcopy([one.state_dict() for one in (model, optimizer, scheduler)])
        if epoch in (2, 4, 6):
            order = sorted(
                (float(value), layer, place)
                for layer, weight in enumerate(weights)
                for place, value in enumerate(weight.detach().abs().masked_fill(~kept[layer], -1).flatten())
            )
            count = sum(weight.numel() for weight in weights)
            for _, layer, place in order[: ceil((1 - (1 - SPARSITY) ** (epoch // 2 / ROUNDS)) * count - 1e-6)]:
                kept[layer].view(-1)[place] = False
            optimizer, scheduler = parts(model)
            for one, state in zip((model, optimizer, scheduler), copy.deepcopy(early), strict=True):
                one.load_state_dict(state)
            with torch.no_grad():
                for weight, mask in zip(weights, kept, strict=True):
                    weight *= mask
                    for state in optimizer.state.get(weight, {}).values():
                        state *= mask
        rates.append(optimizer.param_groups[0]["lr"])
        for x, y in DATA[epoch * STEPS : (epoch + 1) * STEPS]:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            for weight, mask in zip(weights, kept, strict=True):
                assert weight.grad is not None
                weight.grad *= mask
            optimizer.step()
        scheduler.step()
    return model, kept, rates


@pytest.mark.parametrize("to", [0, 1])
def test_a_lottery_ticket_is_that_of_the_loops_to_the_bit(to: int) -> None:
    dense, kept, rates = by_loops(to)
    ours = Run(to).run()
    assert ours.back == [2, 4, 6] and ours.rates == rates
    assert_same_state([ours.model.conv.mask, ours.model.fc.mask], kept)
    for name, value in dense.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name
    assert ours.model.sparsity().true == pytest.approx(SPARSITY, abs=0.01)


@pytest.mark.parametrize("stop", [0, 2, 3])  # after its first epoch, and after the first and second of a round
def test_a_resumed_run_is_the_run_never_stopped(stop: int) -> None:
    whole, saved = Run(1), {}
    for epoch in whole.epochs(0):
        if epoch == stop:
            saved = whole.state()
    resumed = Run(1)
    resumed.load(saved)
    for _ in resumed.epochs(stop + 1):
        pass
    assert_same_state(resumed.state(), whole.state())
    assert whole.back == [2, 4, 6] and resumed.back == [b for b in whole.back if b > stop]


def test_a_learning_rate_goes_back_alone() -> None:
    ours, before = Run(weights=False), None
    for epoch in ours.epochs(0):
        if epoch + 1 in (2, 4, 6):
            before = {name: p.detach().clone() for name, p in ours.model.named_parameters()}
            momenta = [ours.optimizer.state[p]["momentum_buffer"].clone() for p in ours.model.parameters()]
            rate = ours.optimizer.param_groups[0]["lr"]
            assert ours.rewinding.epoch()
            assert_same_state(before, dict(ours.model.named_parameters()))
            assert_same_state(momenta, [ours.optimizer.state[p]["momentum_buffer"] for p in ours.model.parameters()])
            assert ours.optimizer.param_groups[0]["lr"] == 0.1 > rate
    assert before is not None and ours.rates[:2] * 4 == ours.rates


def test_it_works_with_any_regime_and_goes_back_only_when_masks_have_moved() -> None:
    model = sparse("ck", era=(1, 3)).train()
    optimizer = SGD(model.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch=1)
    rewinding, back = Rewinding(model, optimizer), []
    first = model.get_parameter("conv1.weight").detach().clone()
    for epoch, batch in enumerate(batches(5)):
        if rewinding.epoch():
            back.append(epoch)
            weight = model.get_parameter("conv1.weight")
            assert torch.equal(weight, first * masks(model)["conv1.mask"])
        step(model, optimizer, batch)
    assert back == [2, 3] and rewinding.epochs_back == 3


def test_rounds_take_the_same_share_of_what_is_left() -> None:
    schedule = Rounds(2, 8, rounds=3, final=0.875)
    left = [1 - 0.875 * schedule.fraction(epoch) for epoch in range(10)]
    assert left == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125])
    assert [longest_training(schedule.ends, to, 12) for to in (0, 1, 3)] == [4, 5, 7]
    model = sparse("lottery-ticket", sparsity=0.875, era=(0, 4), rounds=2, overrides={"conv2": 0.75})
    found = []
    for epoch in (1, 2, 4):
        model.epoch(epoch)
        found.append({row.name: row.target for row in model.sparsity().layers})
    assert [row["conv2"] for row in found] == pytest.approx([0, 0.5, 0.75])
    assert [row["conv1"] for row in found] == pytest.approx([0, 1 - 0.125**0.5, 0.875])


def test_who_forgets_to_go_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = sparse("lottery-ticket", era=(0, 5))
        model.epoch(1)
    assert "nothing rewinds the weights. Use campfire_fx.Rewinding" in caplog.text
    caplog.clear()
    assert isinstance(rewinding_of(model), Rewinding) and rewinding_of(sparse("ck")) is None
    model.epoch(2)
    assert not caplog.text


def late() -> SparseModel:
    return sparse("ck", masks_move="after")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Rewinding(sparse("ck"), to=-1), "to=-1 is no epoch"),
        (lambda: Rewinding(late()), "Call sparsify with masks_move='before'"),
        (lambda: lottery_ticket(0), "rounds: 0 is no number of rounds"),
        (lambda: lottery_ticket(rewind_to=1.5), "rewind_to: 1.5 is no epoch"),  # type: ignore[arg-type]
        (
            lambda: Rewinding(sparse("ck"), to=1).load_state_dict(Rewinding(sparse("ck")).state_dict()),
            "saved with to=0",
        ),
    ],
)
def test_what_cannot_be_is_refused(wrong: Any, told: str) -> None:
    with pytest.raises(RegimeError, match=told):
        wrong()


def test_an_epoch_that_was_missed_is_named() -> None:
    model = sparse("ck")
    rewinding = Rewinding(model, to=1)
    model.epoch(2)
    with pytest.raises(RegimeError, match=r"Rewinding: a Linear has no masks\. Give what sparsify returned"):
        Rewinding(torch.nn.Linear(1, 1))
    with pytest.raises(RegimeError, match="epoch 1 is over, and nothing was remembered"):
        rewinding.epoch()


def test_a_model_that_was_made_smaller_is_named() -> None:
    model = sparse("filter", era=(0, 1), sparsity=0.5)
    rewinding = Rewinding(model)
    rewinding.epoch()
    model.epoch(1)
    rewinding.model = model.eval().reconfigure()
    with pytest.raises(RegimeError, match=r"Rewinding at \S+: it is another tensor than in epoch 0"):
        rewinding.epoch()
