"""Compacting: whole indices are cut, or it is said that they cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from campfire_fx.analysis.compact import (
    Uneven,
    Vanished,
    compact,
    compact_value,
    cut_like,
    kept_indices,
    kept_line,
    select,
)
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.liveness import Liveness


def living(*alive: int, count: int = 12) -> Liveness:
    """Return the liveness of labels that are all apart, of which some live; label 0 always does."""
    lives = torch.zeros(count, dtype=torch.bool)
    lives[[0, *alive]] = True
    return Liveness(torch.arange(count), lives, [])


def image(*labels: int) -> Tensor:
    """Return labels of shape (2, C, 4, 4), stretched along all but the channels."""
    return torch.tensor(labels, dtype=torch.float64).view(1, -1, 1, 1).expand(2, len(labels), 4, 4)


def test_dead_channels_are_cut_and_the_rest_stays_stretched() -> None:
    got = compact(image(1, 2, 3, 4), living(2, 4))
    assert got.shape == (2, 2, 4, 4) and got.stride() == (0, 1, 0, 0)
    assert got[0, :, 0, 0].tolist() == [2, 4]


def test_indices_select_the_same_of_values() -> None:
    live, values = living(2, 4), torch.randn(2, 4, 4, 4)
    keep = kept_indices(image(1, 2, 3, 4), live)
    assert [None if k is None else k.tolist() for k in keep] == [None, [1, 3], None, None]
    assert torch.equal(select(values, keep), values[:, [1, 3]])
    assert kept_line(image(1, 2, 3, 4), live, 1).tolist() == [False, True, False, True]
    assert kept_line(image(1, 2, 3, 4), live, 2).all()


def test_where_all_lives_nothing_is_indexed() -> None:
    assert kept_indices(image(1, 2), living(1, 2)) == (None,) * 4


def test_rows_and_columns_at_once() -> None:
    grid = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert compact(grid, living(1, 3, 7, 9)).tolist() == [[1, 3], [7, 9]]


def test_what_is_not_rectangular_is_named() -> None:
    grid = torch.tensor([[1.0, 2], [3, 4]])
    with pytest.raises(Uneven) as found:
        kept_indices(grid, living(1, 4))
    assert found.value.labels.tolist() == [2, 3]


def test_nested_values_and_what_vanishes() -> None:
    first, second, number = compact_value((Labelled(image(1, 2)), [Labelled(image(3))], 5), living(2))
    assert first.shape == (2, 1, 4, 4) and isinstance(second[0], Vanished) and number == 5


def test_heads_may_lose_different_channels_where_as_many_are_left_of_each() -> None:
    heads, live = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), living(1, 3, 5, 6)
    with pytest.raises(Uneven):
        compact(heads, live)
    assert compact(heads, live, even=True).tolist() == [[1, 3], [5, 6]]
    assert cut_like(heads * 10, heads, live).tolist() == [[10, 30], [50, 60]]
    assert compact(heads.t(), live, even=True).t().tolist() == [[1, 3], [5, 6]]
    with pytest.raises(Uneven):
        compact(heads, living(1, 2, 3, 5), even=True)
