"""The saved state: what it holds, and what is refused. Rules are told apart by what they do, not by their names."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import (
    ELEMENT,
    KERNEL,
    WITHIN_LAYER,
    Constant,
    Cut,
    Goal,
    Gradual,
    Granularity,
    Polynomial,
    Scope,
    at_random,
    l1,
    l2,
    largest,
    regime_named,
    rigl,
)
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import LayerState
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.saved_state import load, to_tensor
from campfire_fx.sparsity.state import SparsityState

POWER = 2.0


def state(regime: str = "combined", sparsity: float = 0.7, era: tuple[int, int] = (2, 6)) -> SparsityState:
    rule = regime_named(regime).spatial
    layers = [
        Assignment("stem", 0.0, Polynomial(*era), None, reason="it reads the model's input"),
        Assignment("conv", sparsity, Polynomial(*era), rule),
        Assignment("late", sparsity / 2, Polynomial(era[0] + 2, era[1] + 2), rule),
    ]
    return SparsityState(regime, sparsity, {a.name: LayerState(a) for a in layers})


def of_rule(rule: Any, **more: Any) -> SparsityState:
    assignment = Assignment("conv", 0.5, **({"schedule": Polynomial(0, 2), "rule": rule} | more))
    return SparsityState("mine", 0.5, {"conv": LayerState(assignment)})


def loads(saved: Any, into: Any) -> bool:
    try:
        load(of_rule(into), to_tensor(of_rule(saved)))
    except RegimeError:
        return False
    return True


def test_it_is_taken_over_schedule_and_all() -> None:
    saved = state(sparsity=0.6, era=(1, 5))
    saved.clock = Clock(4, 17, 417, frozen=True, steps_per_epoch=100)
    saved.layers["conv"].reached, saved.layers["late"].by_hand = 0.1 + 0.2, True
    saved.layers["conv"].numbers = {"rho": 0.1, "updates": 3, "dual": None}
    other = state()
    load(other, to_tensor(saved))
    saved.clock.steps_per_epoch = None  # how long an epoch is, is the loader's business
    assert other == saved


def test_its_form_is_a_tensor_of_steady_length() -> None:
    one = state()
    short = to_tensor(one)
    one.clock = Clock(123456, 987654, 10**12)
    one.layers["conv"].reached = 1 / 3
    one.layers["late"].numbers = dict.fromkeys(("aim", "since", "updates", "epoch", "rho", "primal", "dual"), 1 / 7)
    assert short.dtype == torch.uint8 and short.shape == to_tensor(one).shape


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (state("ck"), "saved under regime 'ck', this model has 'combined'. Build the model with sparsify"),
        (replace(state(), layers={}), "state_dict at conv: the layers it was saved for are not this model's"),
    ],
)
def test_one_of_another_regime_changes_nothing(other: SparsityState, text: str) -> None:
    mine = state()
    with pytest.raises(RegimeError, match=text):
        load(mine, to_tensor(other))
    assert mine == state()


def test_another_rule_under_the_same_name_is_refused() -> None:
    other = state()
    conv = other.layers["conv"]
    conv.assignment = replace(conv.assignment, rule=regime_named("window").spatial)
    with pytest.raises(RegimeError, match=r"state_dict at conv: it was saved with the rule Cut.*this model has Window"):
        load(state(), to_tensor(other))


def test_another_kind_of_schedule_is_refused_whatever_its_name() -> None:
    @dataclass(frozen=True)
    class Renamed(Polynomial):
        pass

    load(of_rule(cut(l1)), to_tensor(of_rule(cut(l1), schedule=Renamed(0, 2))))
    with pytest.raises(RegimeError, match="with the rule Cut.* Polynomial, this model has Cut.* Constant"):
        load(of_rule(cut(l1), schedule=Constant(0, 2)), to_tensor(of_rule(cut(l1))))


def test_a_method_goes_by_name_version_and_numbers() -> None:
    @dataclass(frozen=True)
    class Mine(Method):
        name = "mine"
        share: float = 0.5

    @dataclass(frozen=True)
    class Renamed(Mine):
        pass

    @dataclass(frozen=True)
    class Later(Mine):
        version = 2

    saved = to_tensor(of_rule(cut(l1), method=Mine()))
    load(of_rule(cut(l1), method=Renamed()), saved)
    for other in (Mine(0.6), Later()):
        with pytest.raises(RegimeError, match=r"saved with the rule Cut.*Mine\(share=0.5\), this model has Cut"):
            load(of_rule(cut(l1), method=other), saved)


def test_chance_is_not_compared_nor_disturbed() -> None:
    torch.manual_seed(4)
    saved = to_tensor(of_rule(Cut(ELEMENT, at_random, WITHIN_LAYER), method=rigl().method))
    drawn = torch.rand(3)
    torch.manual_seed(4)
    assert torch.equal(torch.rand(3), drawn)
    torch.manual_seed(5)
    load(of_rule(Cut(ELEMENT, at_random, WITHIN_LAYER), method=rigl().method), saved)
    with pytest.raises(RegimeError, match="saved with the rule"):
        load(of_rule(Cut(ELEMENT, largest, WITHIN_LAYER), method=rigl().method), saved)


@pytest.mark.parametrize("saved", [torch.zeros(8, dtype=torch.uint8), torch.tensor(list(b"{}")), "text", {"epoch": 3}])
def test_what_is_no_state_is_refused(saved: object) -> None:
    with pytest.raises(RegimeError, match="the saved schedule in '_extra_state' cannot be read"):
        load(state(), saved)


def cut(score: Any) -> Cut:
    return Cut(KERNEL, score, WITHIN_LAYER)


def powered(power: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def score(magnitudes: Tensor, sizes: Tensor) -> Tensor:
        return magnitudes.pow(torch.as_tensor(power)).sum(-1) / sizes

    return score


def mean(magnitudes: Tensor, sizes: Tensor) -> Tensor:
    return magnitudes.sum(-1) / sizes


def with_default(magnitudes: Tensor, _sizes: Tensor, power: float = 2) -> Tensor:
    return magnitudes.pow(power).sum(-1)


def with_global(magnitudes: Tensor, _sizes: Tensor) -> Tensor:
    return magnitudes.pow(POWER).sum(-1)


class Power:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, magnitudes: Tensor, _sizes: Tensor) -> Tensor:
        return magnitudes.pow(self.power).sum(-1)

    def score(self, magnitudes: Tensor, _sizes: Tensor) -> Tensor:
        return -magnitudes.pow(self.power).amin(-1) + magnitudes.sum(-1)


@dataclass(frozen=True)
class Mixed:
    score: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        kept = mask & cut(self.score)(weight, mask, Goal(goal.sparsity / 2, goal.final))
        return Cut(ELEMENT, self.score, Scope("channel", (None, 1, None)))(weight, kept, goal)


# Every one does something else; what does the same stands in one place.
MAKERS: dict[str, list[Callable[[], Any]]] = {
    "sum": [
        lambda: cut(l1),
        lambda: cut(mean),
        lambda: cut(lambda m, s: m.sum(-1)),
        lambda: cut(lambda m, s: m.sum(-1) * 3),
        lambda: cut(lambda m, s: torch.stack([x.sum(-1) for x in (m, m)]).sum(0)),
        lambda: cut(powered(1)),
        lambda: cut(functools.partial(with_default, power=1)),
    ],
    "squares": [
        lambda: cut(l2),
        lambda: cut(powered(2)),
        lambda: cut(powered(np.array(2.0))),
        lambda: cut(with_default),
        lambda: cut(with_global),
        lambda: cut(Power(2)),
    ],
    "cubes": [lambda: cut(powered(torch.tensor(3))), lambda: cut(Power(3)), lambda: cut(powered(np.array(3.0)))],
    "max": [lambda: cut(largest), lambda: cut(lambda m, s: m.amax(-1))],
    "method": [lambda: cut(Power(1).score)],
    "other method": [lambda: cut(Power(0.5).score)],
    "record": [lambda: Mixed(powered(2))],
    "other record": [lambda: Mixed(powered(3))],
    "rule of its own": [lambda: lambda weight, mask, goal: mask],
    "other rule of its own": [lambda: lambda weight, mask, goal: ~mask],
    "tile": [lambda: Cut(Granularity("mine", (2, 1, 1)), l1, WITHIN_LAYER)],
    "other tile": [lambda: Cut(Granularity("mine", (1, 2, 1)), l1, WITHIN_LAYER)],
    "scope": [lambda: Cut(ELEMENT, l1, Scope("mine", (2, 1, 1)))],
    "other scope": [lambda: Cut(ELEMENT, l1, Scope("mine", (4, 1, 1)))],
    "count": [lambda: replace(cut(largest), count=lambda size, s: math.ceil(size * s))],
    "other count": [lambda: replace(cut(largest), count=lambda size, s: math.floor(size * s))],
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_rule_fits_what_does_the_same_and_no_other(name: str) -> None:
    for make in MAKERS[name]:
        fitting = [other for other in MAKERS for into in MAKERS[other] if loads(make(), into())]
        assert fitting == [name] * len(MAKERS[name])


def test_a_rule_that_only_fits_its_own_layers_is_not_compared() -> None:
    assert loads(cut(lambda m, s: m.view(5, 5, 5).sum(-1)), cut(lambda m, s: m.view(7, 7).sum(-1)))


def test_values_from_around_a_function_count(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = to_tensor(of_rule(cut(with_global)))
    load(of_rule(cut(with_global)), saved)
    monkeypatch.setitem(globals(), "POWER", 4.0)
    with pytest.raises(RegimeError, match="with the rule Cut.*with_global.*has the same, with another function"):
        load(of_rule(cut(with_global)), saved)


def test_an_update_of_ones_own() -> None:
    one = to_tensor(of_rule(cut(l1), method=Gradual(lambda mask, proposal: proposal)))
    load(of_rule(cut(l1), method=Gradual(lambda mask, proposal: proposal)), one)
    with pytest.raises(RegimeError, match="has the same, with another function"):
        load(of_rule(cut(l1), method=Gradual(lambda mask, proposal: mask | proposal)), one)
