"""Intervals of shares: known values, ends, and how often they hold the truth."""

from __future__ import annotations

import pytest
import torch

from campfire_fx.report.intervals import of_mean_difference, of_paired_difference, of_share, of_trainings


@pytest.mark.parametrize(("right", "images", "low", "high"), [
    (0, 10, 0.0, 0.2775),      # Wilson's interval, as tables of it have it
    (5, 10, 0.2366, 0.7634),
    (10, 10, 0.7225, 1.0),
    (95, 100, 0.8882, 0.9785),
])  # fmt: skip
def test_shares(right: int, images: int, low: float, high: float) -> None:
    found = of_share(right, images)
    assert found.value == right / images
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_pairs_that_never_differ_are_no_proof_of_equality() -> None:
    few, many = of_paired_difference(0, 0, 10), of_paired_difference(0, 0, 10_000)
    assert few.value == many.value == 0
    assert few.low < -0.1 and many.high < 0.001


def test_sides_mirror() -> None:
    one, other = of_paired_difference(7, 2, 100), of_paired_difference(2, 7, 100)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.value == pytest.approx(0.05)


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    """4,000 experiments of 200 images: the first alone is right on 3 %, the second alone on 6 %."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(4000, 200, generator=generator)
    lost, won = ((draws < 0.03).sum(1), ((draws >= 0.03) & (draws < 0.09)).sum(1))
    held = [i.low <= 0.03 <= i.high for i in map(of_paired_difference, won.tolist(), lost.tolist(), [200] * 4000)]
    assert 0.935 <= sum(held) / 4000 <= 0.98


def test_a_share_lies_in_its_interval() -> None:
    for images in range(1, 200):
        for right in (0, 1, images // 2, images - 1, images):
            found = of_share(right, images)
            assert 0 <= found.low <= found.value <= found.high <= 1, (right, images)


def test_trainings() -> None:
    assert of_trainings([0.7]) is None
    two = of_trainings([0.70, 0.72])
    assert two is not None and two.value == pytest.approx(0.71)
    assert two.high - two.value == pytest.approx(12.706 * 0.01)  # t(1) times the standard error of two
    normal = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    found = [interval for interval in map(of_trainings, normal) if interval is not None]
    assert 0.94 < sum(one.low <= 0 <= one.high for one in found) / 4000 < 0.96


def test_differences_by_image() -> None:
    found = of_mean_difference([0.0] * 90 + [1.0] * 7 + [-1.0] * 3)
    paired = of_paired_difference(7, 3, 100)
    assert found.value == paired.value == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high), abs=0.005)
