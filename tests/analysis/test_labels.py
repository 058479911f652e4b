"""The union-find forest over labels, and tensors of labels stretched along what does not vary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.analysis.forest import Joins, LabelForest
from campfire_fx.analysis.labels import FIXED, broadcast_shape, collapse, lines, not_zero, varies

pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40)


def _with_labels(count: int) -> LabelForest:
    forest = LabelForest()
    joins = Joins(forest)
    joins.fresh(count)
    forest.enter(joins)
    return forest


def _all(joins: Joins) -> list[float]:
    return joins.find(torch.arange(joins.size, dtype=torch.float64)).tolist()


@given(pairs, st.integers(1, 5), st.booleans())
def test_joining_is_the_finest_partition_that_holds_all_pairs(
    joined: list[tuple[int, int]], steps: int, enters: bool
) -> None:
    forest = _with_labels(30)
    part = list(range(31))
    for first, second in joined:
        old, new = part[second], part[first]
        part = [new if p == old else p for p in part]
    joins = Joins(forest)
    for start in range(steps):  # in any number of calls
        some = torch.tensor(joined[start::steps], dtype=torch.float64).view(-1, 2)
        joins.join(some[:, 0], some[:, 1])
        if enters:
            forest.enter(joins)
            joins = Joins(forest)
    smallest = {p: part.index(p) for p in part}
    assert _all(joins) == [smallest[p] for p in part]
    assert enters or forest.roots().tolist() == list(range(31)), "the forest beside which labels are joined stays"
    forest.enter(joins)
    assert forest.roots().tolist() == [smallest[p] for p in part]


@given(pairs, pairs, st.integers(0, 2000), st.lists(st.integers(0, 30), max_size=5))
def test_what_is_entered_is_what_was_found(
    before: list[tuple[int, int]], after: list[tuple[int, int]], count: int, fixed: list[int]
) -> None:
    forest = _with_labels(30)
    for first, second in before:
        joins = Joins(forest)
        joins.join(torch.tensor([float(first)]), torch.tensor([float(second)]))
        forest.enter(joins)
    known, joins = forest.roots(), Joins(forest)
    for number, (first, second) in enumerate(after):
        fresh = joins.fresh(count if number % 2 else 3)
        joins.join(torch.tensor([float(first)]), fresh[:1])
        joins.join(torch.tensor([[float(second)]]), fresh[-1:])
    joins.fix(torch.tensor(fixed, dtype=torch.float64))
    found = _all(joins)
    assert torch.equal(forest.roots(), known)
    forest.enter(joins)
    assert forest.roots().tolist() == found


def test_what_was_found_beside_another_forest_cannot_be_entered() -> None:
    forest = LabelForest()
    first, second = Joins(forest), Joins(forest)
    first.fresh(3)
    second.fresh(3)
    forest.enter(first)
    with pytest.raises(AssertionError, match="beside another forest"):
        forest.enter(second)


def test_fresh_labels_are_new_however_many() -> None:
    forest = LabelForest()
    given_out = []
    for counts in ((3, 1500), (0, 4000)):
        joins = Joins(forest)
        given_out += [joins.fresh(count) for count in counts]
        forest.enter(joins)
    labels = torch.cat(given_out)
    assert labels.dtype == torch.float64 and FIXED not in labels
    assert labels.unique().numel() == 5503 == len(forest) - 1
    assert torch.equal(forest.find(labels), labels)


def test_fixing_counts_what_could_be_removed_until_then() -> None:
    joins = Joins(LabelForest())
    labels = joins.fresh(4)
    joins.join(labels[0], labels[1])
    assert joins.fix(labels[:3]) == 2
    assert joins.fix(labels) == 1
    assert joins.find(labels).tolist() == [FIXED] * 4


def test_roots_keep_shape_and_stretching() -> None:
    forest = _with_labels(4)
    labels = torch.arange(1.0, 5.0, dtype=torch.float64).view(1, 4, 1, 1).expand(2, 4, 5, 5)
    for find in (forest.find, Joins(forest).find):
        found = find(labels)
        assert found.shape == labels.shape and found.stride() == (0, 1, 0, 0)
        assert find(labels[0, 0, 0, 0]).shape == ()


def test_joining_broadcasts() -> None:
    joins = Joins(LabelForest())
    rows, columns = joins.fresh(2).view(2, 1), joins.fresh(3).view(1, 3)
    joins.join(rows, columns)
    assert set(_all(joins)) == {FIXED, 1}


def test_stretched_dimensions_are_narrowed_and_asked() -> None:
    labels = torch.arange(3.0).view(3, 1).expand(3, 7)
    assert collapse(labels).shape == (3, 1)
    assert varies(labels, 0) and not varies(labels, 1)
    assert lines(labels, 1).shape == (7, 3) and torch.equal(lines(labels, 0)[:, 0], torch.arange(3.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_zero_is_found_in_every_precision(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, -0.0, 1.0], [float("nan"), float("inf"), torch.finfo(dtype).tiny]], dtype=dtype)
    assert torch.equal(not_zero(values), values != 0) and torch.equal(not_zero(values.T), values.T != 0)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((), (1,)), ((0,), (1,)), ((1, 4, 1), (5, 1, 6))])
def test_shapes_broadcast_as_those_of_torch(shapes: tuple[tuple[int, ...], ...]) -> None:
    assert broadcast_shape(*shapes) == torch.broadcast_shapes(*shapes)
    assert isinstance(broadcast_shape(*shapes), torch.Size)
