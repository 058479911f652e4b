"""What a latency table says of widths between and beyond those measured."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from campfire_fx import CampfireError
from campfire_fx.cost.latency_points import Point
from campfire_fx.cost.latency_record import LatencyTable, padded, rising
from campfire_fx.cost.latency_table import latency_table
from tests.cost.timed import IMAGE, Clock, Law, Plain, by_area, use


def table_of(
    patch: pytest.MonkeyPatch, model: nn.Module, shape: tuple[int, ...], *, step: int = 1, law: Law = by_area
) -> LatencyTable:
    use(patch, Clock(law), step=step)
    return latency_table(model, (torch.randn(shape),), cache=False)


def test_times_are_bilinear_between_the_widths_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, nn.Conv2d(64, 32, 1), (1, 64, 3, 3))
    for inputs, outputs in ((64, 32), (8, 4), (9, 31), (33, 5), (50, 17)):
        assert table.layer_ms("", inputs, outputs) == pytest.approx(inputs * outputs / 1000)


def test_below_the_least_width_its_time_stands_and_no_channels_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, nn.Linear(64, 32), (1, 64))
    assert table.layer_ms("", 1, 32) == table.layer_ms("", 8, 32) == pytest.approx(8 * 32 / 1000)
    assert table.layer_ms("", 0, 32) == table.layer_ms("", 64, 0) == 0


def test_a_width_takes_as_long_as_the_next_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, nn.Conv2d(64, 72, 1), (1, 64, 3, 3), step=16)
    assert table.layer_ms("", 33, 72) == table.layer_ms("", 48, 72) == pytest.approx(48 * 72 / 1000)
    assert table.layer_ms("", 64, 65) == table.layer_ms("", 64, 72)
    assert table.layer_ms("", 64, 17) == table.layer_ms("", 64, 32)
    assert table.layer_ms("", 10, 72) == pytest.approx(10 * 72 / 1000)


def test_depthwise_and_grouped_layers_go_by_their_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(32, 64, 1, groups=4))
    table = table_of(monkeypatch, model, (1, 32, 5, 5), law=lambda point: float(point.outputs))
    assert table.layer_ms("0", 12, 12) == 12 and table.layer_ms("0", 20, 12) == 20
    assert table.layer_ms("1", 16, 32) == table.layer_ms("1", 16, 20) == 32


def test_a_width_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, nn.Conv2d(1, 1, 3), (1, 1, 5, 5))
    assert table.layer_ms("", 1, 1) == pytest.approx(0.001)


@given(st.lists(st.lists(st.floats(0.1, 9), min_size=4, max_size=4), min_size=1, max_size=4))
def test_no_time_falls_where_a_width_grows(times: list[list[float]]) -> None:
    grid = np.array(times)
    found = rising(grid)
    assert (np.diff(found, axis=0) >= 0).all() and (np.diff(found, axis=1) >= 0).all()
    assert (found <= grid).all() and found[-1, -1] == grid[-1, -1] and found.min() == grid.min()
    assert np.array_equal(rising(found), found)


def test_noise_does_not_make_a_wider_layer_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    table = table_of(
        monkeypatch, Plain(), IMAGE.shape, step=4, law=lambda point: by_area(point) + noise.uniform(0, 0.2)
    )
    for path, times in zip(table.layers, table.times, strict=True):
        for inputs in range(1, times.inputs + 1):
            row = [table.layer_ms(path, inputs, outputs) for outputs in range(1, times.outputs + 1)]
            assert row == sorted(row)
            wider = min(inputs + 1, times.inputs)
            assert table.layer_ms(path, inputs, times.outputs) <= table.layer_ms(path, wider, times.outputs)


def test_many_widths_at_once_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, Plain(), IMAGE.shape, step=4)
    chance = np.random.default_rng(1)
    inputs = np.stack([chance.integers(0, times.inputs + 1, (3, 2)) for times in table.times], -1)
    outputs = np.stack([chance.integers(0, times.outputs + 1, (3, 2)) for times in table.times], -1)
    layers, totals = table.layers_ms(inputs, outputs), table.totals_ms(inputs, outputs)
    assert layers.shape == (3, 2, 3) and totals.shape == (3, 2)
    for at in np.ndindex(3, 2):
        widths = {path: (int(inputs[at][k]), int(outputs[at][k])) for k, path in enumerate(table.layers)}
        assert layers[at].tolist() == [table.layer_ms(path, *width) for path, width in widths.items()]
        assert totals[at] == pytest.approx(table.total_ms(widths))


def test_layers_that_are_not_named_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, Plain(), IMAGE.shape)
    full = {times.name: (times.inputs, times.outputs) for times in table.times}
    assert table.total_ms({}) == table.total_ms(full) == table.dense_ms
    assert table.total_ms({"stem": (3, 8)}) < table.dense_ms


def test_padded_agrees_on_numbers_and_arrays() -> None:
    expected = [1, 15, 16, 32, 32, 48, 50, 50]
    assert padded(np.array([1, 15, 16, 17, 32, 33, 49, 50]), 50, 16).tolist() == expected
    assert [float(padded(width, 50, 16)) for width in (17, 49)] == [32, 50]


def test_bad_widths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, Plain(), IMAGE.shape)
    with pytest.raises(CampfireError, match="no layer 'unused' that runs. Name one of its `layers`"):
        table.layer_ms("unused", 1, 1)
    with pytest.raises(CampfireError, match="4 inputs and 16 outputs at stem: it has 3 and 16. Give no more"):
        table.total_ms({"stem": (4, 16)})
    with pytest.raises(CampfireError, match="-1 outputs at head"):
        table.total_ms({"head": (4, -1)})


def test_it_is_pickled_and_written_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(monkeypatch, Plain(), IMAGE.shape)
    again = pickle.loads(pickle.dumps(table))
    assert again == table and again.total_ms({"stem": (3, 5)}) == table.total_ms({"stem": (3, 5)})
    facts = json.loads(json.dumps(table.facts()))
    assert facts["whole_ms"] == 100 and [times["name"] for times in facts["times"]] == list(table.layers)
    assert facts["times"][0]["ms"] == [list(row) for row in table.times[0].ms]


def test_a_point_is_known_by_all_that_its_time_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: set[str] = set()
    for model, size in ((nn.Conv2d(4, 4, 1), 5), (nn.Conv2d(4, 4, 1), 6), (nn.Conv2d(4, 4, 1, bias=False), 5)):
        clock = use(monkeypatch, Clock())
        latency_table(model, (torch.randn(1, 4, size, size),), cache=False)
        keys |= {point.key for point in clock.asked}
        assert all(isinstance(point, Point) for point in clock.asked)
    assert len(keys) == 3 * 16
