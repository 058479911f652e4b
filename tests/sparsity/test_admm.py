"""ADMM's projection against brute force, its numbers, and the stages of its schedule."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import (
    CHANNEL,
    COLUMN,
    ELEMENT,
    FILTER,
    KERNEL,
    Admm,
    Goal,
    Granularity,
    Stages,
    admm,
    admm_in_turn,
    regime_named,
)
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.regimes.admm import project

STRUCTURES = (FILTER, CHANNEL, COLUMN, KERNEL, ELEMENT)


def ones(shape: tuple[int, ...]) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def groups(granularity: Granularity, shape: tuple[int, int, int]) -> Tensor:
    """Membership of every group, (groups, K, C, P) bool."""
    grid = granularity.split(torch.zeros(shape))[..., 0]
    marks = torch.eye(grid.numel()).view(-1, *grid.shape)
    return torch.stack([granularity.spread(mark, shape) for mark in marks]) > 0


def nearest_distance(weight: Tensor, members: Tensor, dead: int) -> float:
    """Least squared distance to a weight with at least so many groups zero, by trying all choices."""
    norms = [float(weight[member].square().sum()) for member in members]
    return min(sum(choice) for choice in combinations(norms, dead))


@pytest.mark.parametrize("granularity", STRUCTURES, ids=repr)
@given(seed=st.integers(0, 2**31), sparsity=st.floats(0, 0.99), ties=st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_projection_is_the_nearest_point(granularity: Granularity, seed: int, sparsity: float, ties: bool) -> None:
    shape = (
        (4, 3, 2) if granularity in (FILTER, CHANNEL, COLUMN) else (2, 2, 3) if granularity == ELEMENT else (3, 3, 2)
    )
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight = weight.round() if ties else weight
    rule = admm(granularity).spatial
    assert rule is not None
    near = project(rule, weight, ones(shape), Goal(sparsity, sparsity))
    members = groups(granularity, shape)
    dead = min(int(len(members) * sparsity + 0.5 + 1e-9), len(members) - 1)
    assert sum(not bool(near[member].any()) for member in members) >= dead
    assert bool(((near == weight) | (near == 0)).all())
    distance = float((weight - near).square().sum())
    assert distance == pytest.approx(nearest_distance(weight, members, dead), abs=1e-12)


@pytest.mark.parametrize("granularity", STRUCTURES, ids=repr)
def test_of_equal_groups_exactly_so_many_die_the_first_ones(granularity: Granularity) -> None:
    rule, shape = admm(granularity).spatial, (4, 4, 2)
    assert rule is not None
    near = project(rule, torch.ones(shape), ones(shape), Goal(0.5, 0.5))
    dead = [not bool(near[member].any()) for member in groups(granularity, shape)]
    assert dead == [True] * (len(dead) // 2) + [False] * (len(dead) // 2)


def test_what_is_masked_stays_zero_and_counts() -> None:
    rule, mask = admm(FILTER).spatial, ones((6, 2, 3))
    assert rule is not None
    mask[:2] = False
    near = project(rule, torch.randn(6, 2, 3) * mask, mask, Goal(0.5, 0.5))
    alive = near.flatten(1).any(1)
    assert not alive[:2].any() and int(alive.sum()) == 3


@given(seed=st.integers(0, 2**31), sparsity=st.floats(0.05, 0.95), share=st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_two_structures_in_turn_cross_and_meet_the_target(seed: int, sparsity: float, share: float) -> None:
    rule, shape = admm_in_turn(COLUMN, FILTER, share=share).spatial, (40, 8, 9)
    assert rule is not None
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    mask = rule(weight, ones(shape), Goal(sparsity, sparsity))
    filters, columns = mask.flatten(1).any(1), mask.any(0)
    assert torch.equal(mask, filters.view(-1, 1, 1) & columns)
    assert 1 - float(columns.double().mean()) == pytest.approx(share * sparsity, abs=0.5 / 72 + 1e-9)
    assert float((~mask).double().mean()) == pytest.approx(sparsity, abs=0.5 / 40 + 1e-6)


def test_stages_jump_at_their_ends_and_aim_within() -> None:
    schedule = Stages(2, 8, parts=(0.5, 0.8, 1.0))
    assert [schedule.fraction(e) for e in range(10)] == [0, 0, 0, 0, 0.5, 0.5, 0.8, 0.8, 1, 1]
    assert [schedule.aim(e) for e in range(10)] == [0.5, 0.5, 0.5, 0.5, 0.8, 0.8, 1, 1, 1, 1]
    assert [Stages(3, 3).fraction(e) for e in range(5)] == [0, 0, 0, 1, 1]
    assert [Stages(0, 1, parts=(0.5, 1.0)).fraction(e) for e in range(3)] == [0.5, 1, 1], "a stage of no length"


def test_rho_is_smaller_where_an_iteration_has_more_steps() -> None:
    assert Admm(0.5).first_rho(Clock(steps_per_epoch=70)) == 0.5
    found = [Admm().first_rho(Clock(steps_per_epoch=steps)) * steps for steps in (1, 70, 5000)]
    assert found == pytest.approx([0.2] * 3)
    assert Admm(every=4).first_rho(Clock(steps_per_epoch=5)) == pytest.approx(0.01)
    assert Admm().first_rho(Clock(epoch=3, updates=60)) == pytest.approx(0.01), "epochs set by hand"
    assert Admm().first_rho(Clock()) == Admm().first_rho(Clock(epoch=2)) == pytest.approx(0.002), "nothing is known"


def test_names_are_those_of_the_structures() -> None:
    names = ["admm-filter", "admm-channel", "admm-column", "admm-kernel", "admm-unstructured", "admm-column-filter"]
    assert [regime_named(name).name for name in names] == names
    assert regime_named("admm-unstructured").linear is not None and regime_named("admm-column").linear is None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Admm(rho=0), r"ADMM: rho=0 is not above 0. Give a positive number"),
        (lambda: Admm(multiply=float("inf")), r"ADMM: multiply=inf is not above 0"),
        (lambda: Admm(every=0), r"ADMM: every=0 is no number of epochs. Give 1 or more"),
        (lambda: admm(FILTER, steps=(0.8, 0.5, 1.0)), r"stages: \(0.8, 0.5, 1.0\) do not rise to 1"),
        (lambda: admm(FILTER, steps=()), r"stages: \(\) do not rise to 1. Give parts of the final"),
        (lambda: admm_in_turn(COLUMN, FILTER, share=1), r"a share of 1 is not between 0 and 1. Give 0.7"),
        (lambda: regime_named("admm-row"), r"unknown regime 'admm-row'. Did you mean 'admm-"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, text: str) -> None:
    with pytest.raises(RegimeError, match=text):
        make()  # type: ignore[operator]
