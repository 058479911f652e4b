"""The union-find forest over labels, and tensors of labels stretched along what does not vary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.analysis.labels import FIXED, LabelForest, broadcast_shape, collapse, lines, not_zero, varies

pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40)


@given(pairs, st.integers(1, 5))
def test_joining_is_the_finest_partition_that_holds_all_pairs(joined: list[tuple[int, int]], steps: int) -> None:
    forest = LabelForest()
    forest.fresh(30)
    part = list(range(31))
    for first, second in joined:
        old, new = part[second], part[first]
        part = [new if p == old else p for p in part]
    for start in range(steps):  # in any number of calls
        some = torch.tensor(joined[start::steps], dtype=torch.float64).view(-1, 2)
        forest.join(some[:, 0], some[:, 1])
    roots = forest.roots().tolist()
    smallest = {p: part.index(p) for p in part}
    assert roots == [smallest[p] for p in part]


def test_fresh_labels_are_new_however_many() -> None:
    forest = LabelForest()
    given_out = torch.cat([forest.fresh(count) for count in (3, 1500, 0, 4000)])
    assert given_out.dtype == torch.float64 and FIXED not in given_out
    assert given_out.unique().numel() == 5503 == len(forest) - 1
    assert torch.equal(forest.find(given_out), given_out)


def test_fixing_counts_what_could_be_removed_until_then() -> None:
    forest = LabelForest()
    labels = forest.fresh(4)
    forest.join(labels[0], labels[1])
    assert forest.fix(labels[:3]) == 2
    assert forest.fix(labels) == 1
    assert forest.find(labels).tolist() == [FIXED] * 4


def test_roots_keep_shape_and_stretching() -> None:
    forest = LabelForest()
    labels = forest.fresh(4).view(1, 4, 1, 1).expand(2, 4, 5, 5)
    found = forest.find(labels)
    assert found.shape == labels.shape and found.stride() == (0, 1, 0, 0)
    assert forest.find(labels[0, 0, 0, 0]).shape == ()


def test_joining_broadcasts() -> None:
    forest = LabelForest()
    rows, columns = forest.fresh(2).view(2, 1), forest.fresh(3).view(1, 3)
    forest.join(rows, columns)
    assert set(forest.roots().tolist()) == {FIXED, 1}


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
