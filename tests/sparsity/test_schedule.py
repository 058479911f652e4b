"""The schedule: eq. (1), its ends, and eras that are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import Constant, Polynomial


def test_the_staircase_of_seventy_percent_over_twenty_epochs() -> None:
    schedule = Polynomial(30, 50, 3.0)
    stairs = [round(0.7 * schedule.fraction(30 + e), 3) for e in range(0, 21, 2)]
    assert stairs == [0, 0.19, 0.342, 0.46, 0.549, 0.612, 0.655, 0.681, 0.694, 0.699, 0.7]


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.1, 10), st.integers(0, 120))
def test_it_rises_from_zero_to_one_and_never_falls(start: int, length: int, exponent: float, epoch: int) -> None:
    schedule = Polynomial(start, start + length, exponent)
    assert 0 <= schedule.fraction(epoch) <= schedule.fraction(epoch + 1) <= 1
    assert schedule.fraction(start + length) == 1
    assert length == 0 or schedule.fraction(start) == 0


def test_an_era_of_no_length_is_one_step() -> None:
    schedule = Polynomial(4, 4)
    assert [schedule.fraction(e) for e in (0, 3, 4, 5)] == [0, 0, 1, 1]


def test_exponent_one_is_a_straight_line() -> None:
    assert [Polynomial(0, 4, 1.0).fraction(e) for e in range(5)] == [0, 0.25, 0.5, 0.75, 1]


def test_a_constant_schedule_asks_for_all_from_its_start() -> None:
    assert [Constant(2, 9).fraction(e) for e in (0, 1, 2, 3, 9, 20)] == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", [Polynomial, Constant])
@pytest.mark.parametrize("era", [(5, 3), (-1, 3)])
def test_an_era_that_ends_before_it_starts_is_refused(kind: Any, era: tuple[int, int]) -> None:
    with pytest.raises(RegimeError, match=rf"era: \({era[0]}, 3\) is not a span of epochs. Give \(start, end\)"):
        kind(*era)


@pytest.mark.parametrize("kind", [Polynomial, Constant])
@pytest.mark.parametrize("exponent", [0.0, -1.0, float("nan"), "3"])
def test_an_exponent_that_does_not_rise_is_refused(kind: Any, exponent: Any) -> None:
    with pytest.raises(RegimeError, match="is not above 0"):
        kind(0, 3, exponent)
