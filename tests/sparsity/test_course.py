"""The course: counting, saving, and what it refuses to take over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import Polynomial, regime_named
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.course import Course


def course(regime: str = "combined", sparsity: float = 0.7, era: tuple[int, int] = (2, 6)) -> Course:
    rule = regime_named(regime).spatial
    layers = [
        Assignment("stem", 0.0, Polynomial(*era), None, reason="it reads the model's input"),
        Assignment("conv", sparsity, Polynomial(*era), rule),
        Assignment("late", sparsity / 2, Polynomial(era[0] + 2, era[1] + 2), rule),
    ]
    return Course(regime, {layer.name: layer for layer in layers}, sparsity)


def test_steps_make_epochs() -> None:
    clock = course()
    clock.steps_per_epoch = 3
    assert [clock.tick() for _ in range(7)] == [False, False, True, False, False, True, False]
    assert (clock.epoch, clock.step) == (2, 1)


def test_without_a_length_steps_are_not_counted() -> None:
    clock = course()
    assert not any(clock.tick() for _ in range(5))
    assert (clock.epoch, clock.step) == (0, 0)


def test_layers_move_when_their_threshold_does() -> None:
    clock = course()
    moves = []
    for clock.epoch in range(10):
        moved = clock.moved()
        moves.append([a.name for a in moved])
        clock.reached.update({a.name: clock.due(a) for a in moved})
    both = ["conv", "late"]
    assert moves == [[], [], [], ["conv"], ["conv"], both, both, ["late"], ["late"], []]


def test_a_frozen_course_is_due_in_full_and_own_masks_are_left_alone() -> None:
    clock = course()
    clock.frozen = True
    assert [clock.due(a) for a in clock.moved()] == [0.7, 0.35]
    clock.own = {"conv"}
    assert [a.name for a in clock.moved()] == ["late"]


def test_a_saved_course_is_taken_over_schedule_and_all() -> None:
    saved = course(sparsity=0.6, era=(1, 5))
    saved.epoch, saved.step, saved.steps_per_epoch = 4, 17, 100
    saved.reached, saved.own, saved.frozen = {"conv": 0.1 + 0.2}, {"late"}, True
    other = course()
    other.load(saved.to_tensor())
    assert other == replace(saved, steps_per_epoch=None)  # how long an epoch is, is the loader's business


def test_the_saved_form_is_a_tensor_of_steady_length() -> None:
    clock = course()
    short = clock.to_tensor()
    clock.epoch, clock.step, clock.reached = 123456, 987654, {"conv": 1 / 3, "late": 1 / 7}
    assert short.dtype == torch.uint8 and short.shape == clock.to_tensor().shape


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (course("ck"), "saved under regime 'ck', this model has 'combined'. Build the model with sparsify"),
        (replace(course(), assignments={}), "state_dict at conv: the layers it was saved for are not this model's"),
    ],
)
def test_the_course_of_another_regime_changes_nothing(other: Course, text: str) -> None:
    mine = course()
    with pytest.raises(RegimeError, match=text):
        mine.load(other.to_tensor())
    assert mine == course()


def test_another_rule_under_the_same_name_is_refused() -> None:
    other = course()
    other.assignments["conv"] = replace(other.assignments["conv"], rule=regime_named("window").spatial)
    with pytest.raises(RegimeError, match=r"state_dict at conv: it was saved with the rule Cut.*this model has Window"):
        course().load(other.to_tensor())


@pytest.mark.parametrize("saved", [torch.zeros(8, dtype=torch.uint8), torch.tensor(list(b"{}")), "text", {"epoch": 3}])
def test_what_is_no_course_is_refused(saved: object) -> None:
    with pytest.raises(RegimeError, match="the saved schedule in '_extra_state' cannot be read"):
        course().load(saved)
