"""Selection: exact counts, ties by index, and what is dead stays counted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from campfire_fx.sparsity import ELEMENT, FILTER, KERNEL, WITHIN_CHANNEL, WITHIN_LAYER, Cut, Goal, l1, l2, largest
from campfire_fx.sparsity.selection import DEAD, PROTECTED, lowest, nearest, rank

# Few distinct values, so that ties are the rule.
ROWS = st.integers(1, 12).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=size, max_size=size), min_size=1, max_size=4
    )
)


@given(ROWS, st.data())
def test_lowest_is_a_stable_sort(rows: list[list[float]], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(rows[0])))
    marked = lowest(torch.tensor(rows), count)
    for row, marks in zip(rows, marked.tolist(), strict=True):
        first = sorted(range(len(row)), key=lambda index: (row[index], index))[:count]
        assert [index for index, mark in enumerate(marks) if mark] == sorted(first)


@given(st.lists(st.sampled_from([0.0, 1.0, PROTECTED]), min_size=1, max_size=9), st.data())
def test_protected_groups_are_never_marked(row: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(row)))
    marked = lowest(torch.tensor([row]), count)[0]
    free = sum(value != PROTECTED for value in row)
    assert int(marked.sum()) == min(count, free)
    assert not any(mark for mark, value in zip(marked.tolist(), row, strict=True) if value == PROTECTED)


def test_nearest_rounds_to_the_closest_count() -> None:
    assert [nearest(10, s) for s in (0, 0.04, 0.05, 0.7, 0.96)] == [0, 0, 1, 7, 10]
    assert nearest(100, 0.29) == 29  # 0.29 * 100 is 28.999999999999996
    assert nearest(45, 0.7) == 32  # and 0.7 * 45 is 31.499999999999996: halves go up


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.floats(0, 0.999))
def test_a_cut_removes_exactly_as_many_groups_as_asked(k: int, c: int, p: int, sparsity: float) -> None:
    mask = Cut(KERNEL, largest, WITHIN_LAYER)(torch.randn(k, c, p), torch.ones(k, c, p).bool(), Goal(sparsity, 0.999))
    dead = int((~mask.any(-1)).sum())
    assert dead == min(nearest(k * c, sparsity), k * c - 1)
    assert int((~mask).sum()) == dead * p  # whole kernels, nothing else


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.999), st.integers(0, 2**31))
def test_ranking_by_a_tied_weight_is_deterministic(k: int, c: int, sparsity: float, seed: int) -> None:
    weight = torch.randint(0, 3, (k, c, 3), generator=torch.Generator().manual_seed(seed)).float()
    cut, ones = Cut(ELEMENT, largest, WITHIN_LAYER), torch.ones(k, c, 3).bool()
    first = cut(weight, ones, Goal(sparsity, 0.999))
    assert torch.equal(first, cut(-weight.clone(), ones, Goal(sparsity, 0.999)))
    assert int((~first).sum()) == min(nearest(k * c * 3, sparsity), k * c * 3 - 1)


def test_dead_groups_count_and_never_return() -> None:
    cut = Cut(FILTER, l2, WITHIN_LAYER)
    weight, mask = torch.tensor([5.0, 4.0, 3.0, 2.0]).reshape(4, 1, 1), torch.ones(4, 1, 1).bool()
    mask[0] = False  # the largest filter is dead already
    kept = cut(weight, mask, Goal(0.5, 0.5)).flatten().tolist()
    assert kept == [False, True, True, False]


def test_dead_groups_score_below_every_live_one() -> None:
    weight, mask = torch.zeros(2, 3, 4), torch.ones(2, 3, 4).bool()
    mask[1, 2] = False
    scores = rank(weight, mask, KERNEL, l1).squeeze(-1)
    assert scores.tolist() == [[0, 0, 0], [0, 0, DEAD]]


def test_scope_channel_keeps_as_many_kernels_for_every_input() -> None:
    mask = Cut(KERNEL, largest, WITHIN_CHANNEL)(torch.randn(10, 6, 9), torch.ones(10, 6, 9).bool(), Goal(0.7, 0.7))
    assert mask.any(-1).sum(0).tolist() == [3] * 6


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_the_guard_keeps_the_best_weight_of_every_output(sparsity: float) -> None:
    weight = torch.randn(20, 30, 1) * torch.logspace(-6, 0, 20).reshape(20, 1, 1)  # some rows far weaker than others
    mask = Cut(ELEMENT, largest, WITHIN_LAYER, guard=True)(weight, torch.ones(20, 30, 1).bool(), Goal(sparsity, 0.99))
    assert bool(mask.flatten(1).any(1).all())
    best = weight.abs().flatten(1).argmax(1)
    assert bool(mask.flatten(1)[torch.arange(20), best].all())
    assert int((~mask).sum()) == min(nearest(600, sparsity), 600 - 20)


def test_the_guard_does_not_bring_a_dead_output_back() -> None:
    mask = torch.ones(3, 4, 1).bool()
    mask[1] = False
    kept = Cut(ELEMENT, largest, WITHIN_LAYER, guard=True)(torch.randn(3, 4, 1), mask, Goal(0.9, 0.9))
    assert kept.flatten(1).any(1).tolist() == [True, False, True]


@dataclass(frozen=True)
class Power:
    """A score with a setting: a frozen record that is called."""

    exponent: int

    def __call__(self, magnitudes: Tensor, _sizes: Tensor) -> Tensor:
        return magnitudes.pow(self.exponent).sum(-1)


def test_scores_are_what_the_papers_say() -> None:
    members, sizes = torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([2.0])  # the third member is filling
    assert largest(members, sizes).item() == 4
    assert l1(members, sizes).item() == pytest.approx(7 / 2)
    assert l2(members, sizes).item() == pytest.approx((25 / 2) ** 0.5)


def test_a_cut_says_what_it_is_made_of() -> None:
    assert repr(Cut(KERNEL, largest, WITHIN_CHANNEL)) == "Cut(kernel, largest, within channel, nearest)"
    assert repr(Cut(KERNEL, Power(3), WITHIN_LAYER, guard=True)) == (
        "Cut(kernel, Power(exponent=3), within layer, nearest, guard)"
    )
