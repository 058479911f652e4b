"""The grid of a sweep as a pure function: every combination once, dense first, the same random ones each time."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.app.sweep.grid import Axes, Point, eras_of, in_order
from campfire_fx.base.errors import RegimeError, TrainError

REGIMES = ("ck", "combined", "2:4", "window")


def axis(values: st.SearchStrategy, most: int = 3) -> st.SearchStrategy:
    return st.lists(values, min_size=1, max_size=most, unique=True).map(tuple)


axes = st.builds(
    Axes,
    regimes=axis(st.sampled_from(REGIMES)),
    sparsities=axis(st.sampled_from([0.0, 0.4, 0.6, 0.8])),
    eras=axis(st.sampled_from([(0, 2), (1, 3), (2, 2)])),
    rates=axis(st.sampled_from([None, 0.1, 0.05])),
    drops=axis(st.sampled_from([None, (), (3,), (3, 5)])),
    seeds=axis(st.integers(0, 5)),
)


@given(axes)
def test_every_combination_is_there_once_after_its_dense_one(grid: Axes) -> None:
    points = grid.points()
    sparse = [point for point in points if point.regime is not None]
    expected = {
        (regime, 0.5 if regime == "2:4" else sparsity, era, rate, drops, seed)
        for regime, sparsity, era, rate, drops, seed in product(
            grid.regimes, grid.sparsities, grid.eras, grid.rates, grid.drops, grid.seeds
        )
    }
    assert len(sparse) == len(expected) and len(set(points)) == len(points)
    assert {(p.regime, p.sparsity, p.era, p.rate, p.drops, p.seed) for p in sparse} == expected
    assert len(points) - len(sparse) == len(grid.rates) * len(grid.drops) * len(grid.seeds)
    assert all(points.index(point.dense) < points.index(point) for point in sparse)
    seeds = [point.seed for point in points]
    assert seeds == sorted(seeds, key=grid.seeds.index), "a seed is finished before the next one begins"


@given(axes, st.data())
def test_random_points_are_some_of_the_grid_and_always_the_same(grid: Axes, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, grid.settings))
    points = grid.points(count)
    assert points == grid.points(count) and set(points) <= set(grid.points())
    sparse = {point for point in points if point.regime is not None}
    distinct = {(p.regime, p.sparsity, p.era, p.rate, p.drops) for p in sparse}
    assert len(sparse) == len(distinct) * len(grid.seeds), "each has all seeds"
    if "2:4" not in grid.regimes:  # which fixes its sparsity, so combinations may fall together
        assert len(distinct) == count
    if count == grid.settings:
        assert set(points) == set(grid.points())


def test_a_grid_of_many_is_drawn_from_without_being_made() -> None:
    rates, drops = tuple(float(i) for i in range(1, 10_001)), tuple((i,) for i in range(10_000))
    grid = Axes(("ck",), (0.5,), rates=rates, drops=drops)
    assert grid.settings == 10**8 and len(grid.points(3)) == 6


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(RegimeError, match="unknown regime 'kc'"):
        Axes(("kc",), (0.5,)).points()
    with pytest.raises(RegimeError, match="--sparsity"):
        Axes(("ck",), (0.5, 1.2))
    with pytest.raises(TrainError, match=r"--random 9: the grid has 2 combinations\. Give 1 to 2\."):
        Axes(("ck", "window"), (0.5,)).points(9)


def test_eras_fit_the_epochs() -> None:
    assert eras_of([2, 4], [2, 0], 6) == ((2, 4), (2, 2), (4, 6), (4, 4))
    late = r"2 of 4 eras end after the last of 8 epochs \(2 to 10, 4 to 12\)\. Give --epochs 12 or more, or --skip-late"
    with pytest.raises(TrainError, match=late):
        eras_of([2, 4], [2, 8], 8)
    assert eras_of([2, 4], [2, 8], 8, skip_late=True) == ((2, 4), (4, 6))
    with pytest.raises(TrainError, match=r"1 of 1 eras .* Give --epochs 12 or more\.$"):
        eras_of([4], [8], 8, skip_late=True)


def test_options_say_what_the_point_is() -> None:
    point = Point("ck", 0.6, (2, 4), 0.05, (), 3)
    assert " ".join(point.options) == "--seed 3 --regime ck --sparsity 0.6 --era 2:4 --learning-rate 0.05 --drops none"
    assert point.dense.options == ["--seed", "3", "--learning-rate", "0.05", "--drops", "none"]
    assert list(in_order([point, point])) == [point.dense, point]
