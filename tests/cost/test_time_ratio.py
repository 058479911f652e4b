"""Ratios of times: what is the same is called the same, and what differs is told with an interval that holds it."""

from __future__ import annotations

import random

import pytest
import torch

from campfire_fx.cost.measure import Latency, compared, latencies
from campfire_fx.cost.runtime_times import BenchRecord, RuntimeTime
from campfire_fx.cost.time_ratio import TimeRatio, time_ratio
from campfire_fx.report.numbers import time_share, times_as_fast
from campfire_fx.report.runtimes import BenchReport
from tests.report.small import Small


def noisy(level: float, rounds: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [level * (1 + abs(draw.gauss(0, 0.2))) * (5 if draw.random() < 0.1 else 1) for _ in range(rounds)]


def test_the_interval_is_that_of_the_median_by_ranks() -> None:
    rounds = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    assert time_ratio(rounds, [1.0] * 9) == TimeRatio(5.0, 2.0 * 0.98, 8.0 * 1.02)  # P(Binomial(9, 1/2) <= 1) = 0.0195
    assert time_ratio(rounds[:6], [1.0] * 6) == TimeRatio(3.5, 1.0 * 0.98, 6.0 * 1.02)
    assert time_ratio(rounds[:5], [1.0] * 5) is None, "five rounds say too little"
    assert time_ratio(rounds, [0.0] * 9) is None, "the clock is too coarse"


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    found = [time_ratio(noisy(0.7, 31, seed), noisy(1.0, 31, seed + 10_000)) for seed in range(400)]
    assert sum(one.low <= 0.7 <= one.high for one in found) > 0.92 * 400
    assert sum(one.differs for one in found) > 0.99 * 400, "30 % less time is seen"
    same = [time_ratio(noisy(1.0, 31, seed), noisy(1.0, 31, seed + 10_000)) for seed in range(400)]
    assert sum(one.differs for one in same) < 0.08 * 400


@pytest.mark.parametrize(("ratio", "share", "fast"), [
    (TimeRatio(0.68, 0.655, 0.714), "68 % (66 to 71)", "1.47 (1.40 to 1.53)"),
    (TimeRatio(1.01, 0.97, 1.04), "no difference (97 to 104 %)", "no difference (0.96 to 1.03)"),
    (TimeRatio(2.0, 1.9, 2.1), "200 % (190 to 210)", "0.50 (0.48 to 0.53)"),
])  # fmt: skip
def test_how_it_is_told(ratio: TimeRatio, share: str, fast: str) -> None:
    assert (time_share(ratio), times_as_fast(ratio)) == (share, fast)


def test_others_are_compared_with_one_of_the_models() -> None:
    found = compared("abc", [[2.0] * 7, [1.0] * 7, [4.0] * 7], beside=1)
    assert found["b"] == Latency(1000.0, 1000.0, 1000.0, 7)
    assert (found["a"].ratio.value, found["c"].ratio.value) == (2.0, 4.0)
    timed = latencies({"first": Small(), "second": Small()}, (torch.randn(1, 3, 8, 8),), repeats=7, enough=0.0)
    assert timed["first"].ratio is None and timed["second"].ratio.low > 0 and timed["second"].repeats == 7


def test_a_bench_keeps_and_tells_the_interval() -> None:
    times = compared("ab", [[2.0] * 7, [1.0] * 7])
    record = BenchRecord(tuple(RuntimeTime(name, "torch", taken) for name, taken in times.items()), ((1, 3),), 1)
    assert BenchRecord.from_dict(record.to_dict()) == record
    _, first, second = record.to_csv().splitlines()
    assert first == "a,torch,2000.0,2000.0,2000.0,7,1.0,,,," and second.startswith(
        "b,torch,1000.0,1000.0,1000.0,7,2.0,1.9"
    )
    shown = str(BenchReport(record))
    assert "2.00 (1.96 to 2.04)" in shown and "95 % intervals" in shown
