"""The report of a latency table."""

from __future__ import annotations

import json

import pytest

from campfire_fx.cost import LatencyTable
from campfire_fx.cost.latency_table import latency_table
from campfire_fx.cost.measure import Latency
from campfire_fx.report import latency_report
from campfire_fx.report.style import plain
from tests.cost.timed import IMAGE, Clock, Plain, use


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> LatencyTable:
    use(monkeypatch, Clock(lambda point: float(point.inputs * point.outputs), whole=1000.0))
    return latency_table(Plain(), (IMAGE,), cache=False)


def test_each_layer_has_a_row_with_its_times_over_widths(table: LatencyTable) -> None:
    text = plain(latency_report(table), 120)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["twice"] == ["twice", "Conv2d", "16", "16", "512", "128", "32", "51.2", "%"]
    assert rows["head"] == ["head", "Linear", "16", "10", "160", "40", "8", "16.0", "%"]
    rest = 1000 - 48 - 512 - 160
    assert f" {rest} " in next(line for line in text.splitlines() if "everything else" in line)
    assert "1000" in next(line for line in text.splitlines() if "the whole model" in line)
    assert "Dense: 1000 ms predicted, 1000 ms measured (0.0 % off)." in text
    assert "2x3x8x8, float32" in text and "slim" not in text


def test_a_slim_model_is_predicted_and_compared(table: LatencyTable) -> None:
    widths = {"stem": (3, 8), "twice": (8, 8), "head": (8, 10)}
    report = latency_report(table, widths, 250.0)
    text = plain(report, 120)
    row = next(line.split() for line in text.splitlines() if " twice" in f" {line}")
    assert row[-3:] == ["8", "8", "128"]
    predicted = table.total_ms(widths)
    assert f"Slim: {predicted:.0f} ms predicted, 250 ms measured ({100 * (predicted / 250 - 1):.1f} % off)." in text
    assert json.loads(report.to_json())["slim"] == {"predicted": predicted, "measured": 250.0}
    assert "measured" not in plain(latency_report(table, widths), 120).split("Slim:")[1].splitlines()[0]


def test_the_whole_model_has_a_spread(table: LatencyTable) -> None:
    report = latency_report(table, whole=Latency(950.0, 940.0, 990.0, 20))
    text = plain(report, 120)
    assert "Timed just now: 950 ms; the middle half of 20 calls took 940 to 990 ms." in text
    assert json.loads(report.to_json())["now"]["high_ms"] == 990.0
    assert "just now" not in plain(latency_report(table), 120)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits(table: LatencyTable, width: int) -> None:
    text = plain(latency_report(table, {"stem": (3, 8)}), width)
    assert max(map(len, text.splitlines())) <= width and "head" in text
