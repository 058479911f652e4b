"""Intervals of shares: how sure a number of right answers makes us."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from campfire_fx.base.records import Record

_Z = 1.959963984540054  # 95 % of a normal distribution lies within so many standard deviations

# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; more degrees take the last, which is a little wide.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True, slots=True)
class Interval(Record):
    """An estimate and the ends of its 95 % interval, all shares in [-1, 1]."""

    value: float
    low: float
    high: float


def of_share(right: int, images: int) -> Interval:
    """Return the share right / images with Wilson's 95 % interval; it holds near 0 and 1, too.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = right / images
    scale = 1 + _Z**2 / images
    middle = (share + _Z**2 / (2 * images)) / scale
    reach = _Z / scale * math.sqrt(share * (1 - share) / images + _Z**2 / (4 * images**2))
    # Where all or none are right, the share is an end of the interval: rounding must not put it outside.
    return Interval(share, min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach)))


def of_paired_difference(won: int, lost: int, images: int) -> Interval:
    """Return the difference of two shares of the same images, with a 95 % interval.

    What both answer alike says nothing about the difference, so the interval is far narrower than that of two shares
    of images of their own.

    Args:
        won: images that only the second classifies correctly.
        lost: images that only the first classifies correctly.
        images: all of them.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", 2005: half an
    image is added to each of the four cells.
    """
    n, more, less = images + 2, won + 0.5, lost + 0.5
    middle = (more - less) / n
    reach = _Z * math.sqrt(more + less - (more - less) ** 2 / n) / n
    return Interval((won - lost) / images, max(-1.0, middle - reach), min(1.0, middle + reach))


def of_difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """Return the second of two shares less the first, of images of their own, with a 95 % interval.

    Args:
        first: right answers, and of how many images.
        second: the same.

    Source: Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10.
    """
    one, other = of_share(*first), of_share(*second)
    value = other.value - one.value
    below = math.hypot(other.value - other.low, one.high - one.value)
    above = math.hypot(other.high - other.value, one.value - one.low)
    return Interval(value, value - below, value + above)


def of_trainings(values: Sequence[float]) -> Interval | None:
    """Return the mean of several trainings with a 95 % interval (Student's t); None of one: it says nothing of others.

    Give differences of pairs (sparse and dense of the same seed) to hold two kinds of training against each other.
    """
    if len(values) < 2:
        return None
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = _T[min(len(values) - 1, len(_T)) - 1] * error
    return Interval(mean, mean - reach, mean + reach)


def of_mean_difference(by_image: Sequence[float]) -> Interval:
    """Return the mean of differences, one for each image, with a 95 % interval over images, of the networks at hand.

    Args:
        by_image: each image's mean over pairs of networks: 1 where only the second is right, -1 where only the first.
    """
    mean = statistics.fmean(by_image)
    reach = _Z * statistics.stdev(by_image) / math.sqrt(len(by_image)) if len(by_image) > 1 else math.inf
    return Interval(mean, mean - reach, mean + reach)
