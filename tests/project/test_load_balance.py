"""Load balance: worked masks, its bounds, and chance against counting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from load_balance import busy_fraction, expected_busy_fraction, imbalance, tile_loads

from campfire_fx.base.errors import CostError

SIZES = st.integers(1, 12)
SEEDS = st.integers(0, 2**31)


def random_mask(seed: int, *shape: int, density: float = 0.5) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density


def of_loads(*loads: tuple[int, ...]) -> torch.Tensor:
    """A mask of kernels of four positions, whose units keep so many in each kernel."""
    return torch.tensor([[[p < kept for p in range(4)] for kept in unit] for unit in loads])


def test_the_fullest_row_sets_the_time() -> None:
    mask = of_loads((1, 3), (2, 0))
    # Barriers after each kernel: max 2 and max 3, of 4 each. After both: max 4 of 8. Kept: 6, 3 for each row.
    assert busy_fraction(mask, rows=2, tile=4) == 5 / 8
    assert imbalance(mask, rows=2, tile=4) == pytest.approx(5 / 3)
    assert imbalance(mask, rows=2, tile=8) == pytest.approx(4 / 3)
    assert imbalance(mask, rows=1, tile=4) == 1


def test_a_partial_last_round_counts_as_many_rows_as_it_has() -> None:
    mask = of_loads((4,), (2,), (1,))
    assert busy_fraction(mask, rows=2, tile=4) == (2 * 4 + 1) / 12


def test_a_tile_holds_whole_kernels_and_at_least_one() -> None:
    mask = of_loads((1, 2, 3))
    assert tile_loads(mask, 1, 11)[0].tolist() == [[3, 3]]
    assert tile_loads(mask, 1, 2)[0].tolist() == [[1, 2, 3]]
    assert tile_loads(mask, 1, 11)[1].tolist() == [8, 4]


def test_scanning_limits_what_skipping_gains() -> None:
    mask = of_loads((0, 1), (0, 1))
    assert busy_fraction(mask, rows=2, tile=8) == 1 / 8
    assert busy_fraction(mask, rows=2, tile=8, scan=4) == 1 / 4
    assert busy_fraction(mask, rows=2, tile=4, scan=4) == 1 / 4
    assert busy_fraction(mask, rows=2, tile=4, scan=2) == 1 / 2


@given(SIZES, SIZES, st.integers(1, 9), SIZES, st.integers(1, 80), st.data())
def test_equal_loads_are_balanced(units: int, kernels: int, size: int, rows: int, tile: int, data) -> None:
    kept = data.draw(st.integers(1, size))
    order = torch.rand(units, kernels, size, generator=torch.Generator().manual_seed(data.draw(SEEDS))).argsort(-1)
    assert imbalance(order < kept, rows, tile) == pytest.approx(1)


@given(SIZES, SIZES, st.integers(1, 9), SIZES, st.integers(1, 80), st.floats(0, 1), SEEDS)
def test_bounds(units: int, kernels: int, size: int, rows: int, tile: int, density: float, seed: int) -> None:
    mask = random_mask(seed, units, kernels, size, density=density)
    true = float(mask.double().mean())
    busy = busy_fraction(mask, rows, tile)
    assert true - 1e-12 <= busy <= 1
    assert busy <= busy_fraction(mask, rows, tile, scan=3) <= 1
    assert imbalance(mask, rows, tile) >= 1 - 1e-12
    more = mask | random_mask(seed + 1, units, kernels, size, density=0.2)
    assert busy_fraction(more, rows, tile, scan=3) >= busy_fraction(mask, rows, tile, scan=3)


@given(SIZES, SIZES, SIZES, st.integers(1, 6), SEEDS)
def test_barriers_that_are_further_apart_never_cost_more(u: int, v: int, rows: int, times: int, seed: int) -> None:
    mask = random_mask(seed, u, v * times, 3)
    assert busy_fraction(mask, rows, 3 * times) <= busy_fraction(mask, rows, 3) + 1e-12


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_chance_keeps_the_bounds(units: int, rows: int, tile: int, one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    few, many = (expected_busy_fraction(d, units, rows, tile, scan=8) for d in (low, high))
    assert max(low, 1 / 8) - 1e-9 <= few <= many + 1e-9
    assert many <= 1 + 1e-9


@pytest.mark.parametrize(("density", "rows", "expected"), [(1.0, 4, 1.0), (0.0, 4, 0.0), (0.3, 1, 0.3)])
def test_chance_at_its_ends(density: float, rows: int, expected: float) -> None:
    assert expected_busy_fraction(density, 8, rows, 64) == pytest.approx(expected, abs=1e-9)


def test_chance_worked_by_hand() -> None:
    # Two rows, one position each, kept at 1/2: the fullest holds one with 3/4.
    assert expected_busy_fraction(0.5, 2, 2, 1) == pytest.approx(0.75)
    # Three units on two rows: a round of two at 3/4, one at 1/2.
    assert expected_busy_fraction(0.5, 3, 2, 1) == pytest.approx((2 * 0.75 + 0.5) / 3)


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_chance_is_what_counting_finds(density: float) -> None:
    mask = random_mask(0, 96, 2048, 9, density=density)
    counted = busy_fraction(mask, 32, 144, 16)
    assert counted == pytest.approx(expected_busy_fraction(density, 96, 32, 144, 16), rel=0.01)


@pytest.mark.parametrize(("shape", "rows", "tile"), [
    ((4, 4), 2, 4), ((0, 4, 9), 2, 4), ((2, 2, 2), 0, 4), ((2, 2, 2), 1, 0),
])  # fmt: skip
def test_masks_and_arrays_that_cannot_be(shape: tuple[int, ...], rows: int, tile: int) -> None:
    with pytest.raises(CostError, match="Give"):
        imbalance(torch.ones(shape, dtype=torch.bool), rows, tile)


@pytest.mark.parametrize("numbers", [(1.5, 2, 2, 2), (0.5, 0, 2, 2), (float("nan"), 2, 2, 2)])
def test_chances_that_cannot_be(numbers: tuple[float, int, int, int]) -> None:
    with pytest.raises(CostError, match="out of range"):
        expected_busy_fraction(*numbers)
