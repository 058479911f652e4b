"""The verdict on a run: what is saved, whether time is the same, and how sure the change in accuracy is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from campfire_fx.app.runs.verdict import settings_told, verdict
from campfire_fx.app.train.tally import pack
from campfire_fx.report.intervals import of_difference, of_paired_difference

DENSE = {"name": "dense", "right": 900, "images": 1000, "parameters": 1000, "macs": 4000}
SLIM = {"name": "slim", "right": 904, "images": 1000, "parameters": 680, "macs": 2000}
SAME = {"value": 0.98, "low": 0.95, "high": 1.02}


def rows(**changes: Any) -> list[dict[str, Any]]:
    return [DENSE, {**DENSE, "name": "sparse"}, {**SLIM, "latency_ratio": SAME, **changes}]


def test_one_line_says_it_all() -> None:
    found = verdict(rows())
    assert found is not None
    saved = "32 % fewer parameters, 50 % fewer MACs, time the same"
    assert found.line == f"{saved}, accuracy +0.4 \N{PLUS-MINUS SIGN} 2.6 points"
    assert found.note == (
        "Slim beside dense, one seed. 95 % intervals: accuracy \N{MINUS SIGN}2.2 to +3.0 points on 1,000 test images,"
        " time 95 % to 102 % of dense's."
    )


@pytest.mark.parametrize(("ratio", "told"), [
    (SAME, ", time the same,"),
    ({"value": 0.8, "low": 0.75, "high": 0.85}, ", 20 % less time,"),
    ({"value": 1.3, "low": 1.1, "high": 1.5}, ", 30 % more time,"),
    ({"value": 0.98, "low": 0.97, "high": 0.99}, ", 2 % less time,"),
    ({"value": 0.995, "low": 0.99, "high": 0.999}, ", 0.5 % less time,"),
])  # fmt: skip
def test_time_is_the_same_only_where_the_interval_holds_one(ratio: dict[str, float], told: str) -> None:
    found = verdict(rows(latency_ratio=ratio))
    assert found is not None and told in found.line


def test_time_that_was_not_compared_is_not_spoken_of() -> None:
    found = verdict(rows(latency_ratio=None))
    assert found is not None and "time" not in found.line + found.note
    found = verdict([DENSE, SLIM])
    assert found is not None and "time" not in found.line


def test_images_that_both_saw_make_the_interval_narrow() -> None:
    flags = torch.arange(1000) < 900
    more = flags.clone()
    more[900:904] = True
    found = verdict([{**DENSE, "which": pack(flags)}, {**SLIM, "which": pack(more)}])
    change = of_paired_difference(4, 0, 1000)
    assert found is not None and f"accuracy +0.4 \N{PLUS-MINUS SIGN} {100 * (change.high - 0.004):.1f}" in found.line
    assert "compared one by one" in found.note


def test_without_a_dense_network_the_outputs_are_the_same() -> None:
    found = verdict([{**DENSE, "name": "sparse"}, {**SLIM, "latency_ratio": SAME}])
    assert found is not None and found.line.endswith("time the same, the same outputs")
    assert found.note.startswith("Slim beside sparse")
    assert verdict([DENSE]) is None and verdict([]) is None


def test_nothing_saved_is_said() -> None:
    found = verdict(rows(parameters=1000, macs=3990))
    assert found is not None and found.line.startswith("As many parameters, 0.2 % fewer MACs")


def test_differences_of_images_of_their_own() -> None:
    """Newcombe's table II: 56/70 less 48/80 is 0.2, from 0.0524 to 0.3339."""
    found = of_difference((48, 80), (56, 70))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_settings_are_words() -> None:
    told = dict(
        settings_told(
            {"sparsify": {"rho": 0.5}, "image_size": 16, "recipe": {"rate": 1e-05, "drops": [3, 5]}, "a": None}
        )
    )
    assert told == {"rho": "0.5", "image size": "16", "rate": "1e-05", "drops": "3, 5"}
    assert dict(settings_told({"wishes": {"rho": 0.5}})) == {"rho": "0.5"}  # of former versions
