"""Kernels along one axis: the taps kept have the live ones, read the same inputs, and are the fewest that do."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.analysis.taps import Axis, smallest


@st.composite
def axes(draw: st.DrawFn) -> tuple[Axis, list[int]]:
    size = draw(st.integers(1, 7))
    live = sorted(draw(st.sets(st.integers(0, size - 1))))
    return Axis(size, draw(st.integers(1, 3)), draw(st.integers(0, 4)), draw(st.integers(0, 4))), live


@given(axes(), st.booleans())
def test_the_taps_kept_read_what_they_read_before(case: tuple[Axis, list[int]], even: bool) -> None:
    axis, live = case
    found = smallest(axis, live, even=even)
    assert set(live) <= set(found.kept) and len(found.kept) == found.axis.size
    for place, tap in enumerate(found.kept):
        assert place * found.axis.dilation - found.axis.front == tap * axis.dilation - axis.front
    reach = (axis.size - 1) * axis.dilation - axis.front - axis.back  # decides how many outputs there are
    assert (found.axis.size - 1) * found.axis.dilation - found.axis.front - found.axis.back == reach


@given(axes())
def test_with_any_padding_they_are_the_fewest(case: tuple[Axis, list[int]]) -> None:
    axis, live = case
    step = math.gcd(*(tap - live[0] for tap in live)) if live else 0
    assert smallest(axis, live, even=False).axis.size == ((live[-1] - live[0]) // step + 1 if step else 1)


@given(axes())
def test_with_even_padding_they_are_no_more_than_before_and_a_centred_kernel_shrinks(
    case: tuple[Axis, list[int]],
) -> None:
    axis, live = case
    found = smallest(axis, live, even=True)
    assert found.even or found.axis == axis
    assert found.axis.size <= axis.size
    if axis.front == axis.back >= axis.dilation and axis.size > 2 and not {0, axis.size - 1} & set(live):
        assert found.axis.size < axis.size


def test_examples() -> None:
    three = Axis(3, 1, 1, 1)
    assert smallest(three, [1], even=True).axis == Axis(1, 1, 0, 0)
    assert smallest(three, [0, 1], even=True).axis == three
    assert smallest(three, [0, 1], even=False).axis == Axis(2, 1, 1, 0)
    assert smallest(three, [0, 2], even=True).axis == Axis(2, 2, 1, 1)
    assert smallest(three, [], even=True).axis == Axis(1, 1, 0, 0)
    assert smallest(Axis(5, 2, 4, 4), [1, 3], even=True).axis == Axis(2, 4, 2, 2)
    assert smallest(Axis(3, 1, 0, 0), [1], even=False).axis == Axis(1, 1, -1, -1)
