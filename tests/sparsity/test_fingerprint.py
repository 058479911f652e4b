"""Fingerprints: rules with functions of the user's are told apart by what these do, not by their names."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import ELEMENT, WITHIN_LAYER, Cut, Goal, Granularity, Polynomial, Scope, l1, l2, largest
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.course import Course
from campfire_fx.sparsity.fingerprint import Fingerprint

FACTOR = 2.0
WEIGHTS = torch.arange(4.0)


def course(rule: Any, **more: Any) -> Course:
    return Course("mine", {"conv": Assignment("conv", 0.5, Polynomial(0, 2), rule, **more)}, 0.5)


def loads(saved: Any, into: Any) -> bool:
    try:
        course(into).load(course(saved).to_tensor())
    except RegimeError:
        return False
    return True


def cut(score: Any) -> Cut:
    return Cut(ELEMENT, score, WITHIN_LAYER)


def powered(power: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def score(magnitudes: Tensor, sizes: Tensor) -> Tensor:
        return magnitudes.pow(power).sum(-1) / sizes

    return score


def mean(magnitudes: Tensor, sizes: Tensor) -> Tensor:
    """Score by the mean."""
    return magnitudes.sum(-1) / sizes


def average(magnitudes: Tensor, sizes: Tensor) -> Tensor:
    """Do what `mean` does, under another name."""
    # and with a comment
    return magnitudes.sum(-1) / sizes


def with_default(magnitudes: Tensor, _sizes: Tensor, power: float = 2) -> Tensor:
    return magnitudes.pow(power).sum(-1)


def with_global(magnitudes: Tensor, _sizes: Tensor) -> Tensor:
    return magnitudes.sum(-1) * FACTOR


class Power:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, magnitudes: Tensor, _sizes: Tensor) -> Tensor:
        return magnitudes.pow(self.power).sum(-1)

    def score(self, magnitudes: Tensor, _sizes: Tensor) -> Tensor:
        return magnitudes.pow(self.power).amax(-1)


@dataclass(frozen=True)
class Mixed:
    score: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        return cut(self.score)(weight, mask, goal)


MAKERS: dict[str, Callable[[], Any]] = {
    "lambda sum": lambda: cut(lambda m, s: m.sum(-1)),
    "lambda max": lambda: cut(lambda m, s: m.amax(-1)),
    "lambda constant": lambda: cut(lambda m, s: m.sum(-1) * 2),
    "lambda other constant": lambda: cut(lambda m, s: m.sum(-1) * 3),
    "inner function": lambda: cut(lambda m, s: torch.stack([x.sum(-1) for x in (m, m)]).sum(0)),
    "other inner function": lambda: cut(lambda m, s: torch.stack([x.amax(-1) for x in (m, m)]).sum(0)),
    "mean": lambda: cut(mean),
    "closure 2": lambda: cut(powered(2)),
    "closure 3": lambda: cut(powered(3)),
    "closure array": lambda: cut(powered(np.ones(2))),
    "closure other array": lambda: cut(powered(np.zeros(2))),
    "closure tensor": lambda: cut(powered(torch.ones(2000))),
    "closure other tensor": lambda: cut(powered(torch.cat([torch.ones(1000), torch.zeros(1), torch.ones(999)]))),
    "default": lambda: cut(with_default),
    "partial": lambda: cut(functools.partial(with_default, power=3)),
    "other partial": lambda: cut(functools.partial(with_default, power=4)),
    "object": lambda: cut(Power(2)),
    "other object": lambda: cut(Power(3)),
    "method": lambda: cut(Power(2).score),
    "other method": lambda: cut(Power(3).score),
    "record": lambda: Mixed(powered(2)),
    "other record": lambda: Mixed(powered(3)),
    "rule of its own": lambda: lambda weight, mask, goal: mask,
    "other rule of its own": lambda: lambda weight, mask, goal: ~mask,
    "tile": lambda: Cut(Granularity("mine", (2, 1, 1)), l1, WITHIN_LAYER),
    "other tile": lambda: Cut(Granularity("mine", (1, 2, 1)), l1, WITHIN_LAYER),
    "scope": lambda: Cut(ELEMENT, l1, Scope("mine", (2, 1, 1))),
    "other scope": lambda: Cut(ELEMENT, l1, Scope("mine", (4, 1, 1))),
    "library": lambda: cut(l1),
    "other of the library": lambda: cut(l2),
    "count": lambda: replace(cut(largest), count=lambda size, s: math.ceil(size * s)),
    "other count": lambda: replace(cut(largest), count=lambda size, s: math.floor(size * s)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_rule_fits_itself_and_no_other(name: str) -> None:
    """Made anew, as another process does."""
    fitting = [other for other in MAKERS if loads(MAKERS[name](), MAKERS[other]())]
    assert fitting == [name]


def test_another_name_does_not_count() -> None:
    assert loads(cut(mean), cut(average)) and loads(cut(average), cut(lambda m, s: m.sum(-1) / s))
    own = lambda m, s: m.sum(-1) / s  # noqa: E731
    own.__name__ = "l1"
    assert not loads(cut(own), cut(l1)) and not loads(cut(l1), cut(own)), "the library's are known by name"


def test_values_from_around_a_function_count(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = course(cut(with_global)).to_tensor()
    course(cut(with_global)).load(saved)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    with pytest.raises(RegimeError, match="with the rule Cut.*with_global.*has the same, with another function"):
        course(cut(with_global)).load(saved)


def test_an_update_of_ones_own() -> None:
    one = course(cut(l1), update=lambda mask, proposal: proposal)
    course(cut(l1), update=lambda mask, proposal: proposal).load(one.to_tensor())
    with pytest.raises(RegimeError, match="the same, with another function"):
        course(cut(l1), update=lambda mask, proposal: mask | proposal).load(one.to_tensor())


def older(tensor: Tensor, **changes: Any) -> Tensor:
    """Give a saved course what another version would have saved."""
    state = json.loads(bytes(tensor.tolist()))
    del state["crc32"]
    for layer in state["layers"].values():
        for key in ("form", "code"):
            layer.pop(key) if not changes else layer.update(changes)
    return torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)


def test_what_an_older_version_saved_goes_by_its_repr() -> None:
    saved = older(course(cut(mean)).to_tensor())
    course(cut(mean)).load(saved)
    course(cut(l1)).load(older(course(cut(l1)).to_tensor()))
    with pytest.raises(RegimeError, match=r"the rule Cut\(element, mean.*this model has Cut\(element, average"):
        course(cut(average)).load(saved)


def test_bytecode_of_another_python_is_not_compared() -> None:
    saved = older(course(cut(mean)).to_tensor(), code="2.7:0123456789abcdef")
    course(cut(mean)).load(saved)
    with pytest.raises(RegimeError):
        course(cut(average)).load(saved)


def test_rules_of_the_library_need_no_bytecode() -> None:
    found = Fingerprint.of((cut(l1),), repr(cut(l1)))
    assert ":" not in found.code and found.form == found.rule == repr(cut(l1))


def test_values_that_hold_themselves() -> None:
    held: list[Any] = [1]
    held.append(held)
    assert loads(cut(powered(held)), cut(powered(held)))
