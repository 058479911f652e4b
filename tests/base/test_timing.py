"""Calls are timed in turns, and how often."""

from __future__ import annotations

import time

import pytest
import torch

from campfire_fx.base.timing import in_turns, once

CPU = torch.device("cpu")


def test_calls_take_turns_and_the_first_rounds_are_not_counted() -> None:
    order: list[str] = []
    times = in_turns([lambda: order.append("a"), lambda: order.append("b")], CPU, least=2, most=3, warm=1)
    assert order == ["a", "b", "b", "a"] * 2  # every other round backwards
    assert [len(taken) for taken in times] == [3, 3] and min(map(min, times)) >= 0


@pytest.mark.parametrize(("enough", "rounds"), [(0.0, 2), (60.0, 5)])
def test_what_takes_long_has_fewer_rounds_but_the_least(enough: float, rounds: int) -> None:
    ((*times,),) = in_turns([lambda: None], CPU, least=2, most=5, enough=enough)
    assert len(times) == rounds


def test_of_one_thread_only_its_own_work_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert once(lambda: time.sleep(0.2), CPU) < 0.1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert once(lambda: time.sleep(0.2), CPU) >= 0.2
