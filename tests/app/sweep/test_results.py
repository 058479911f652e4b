"""What a sweep says: intervals of pairs, one value against another, heat maps, and the page."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from campfire_fx.app.sweep.beside import Here
from campfire_fx.app.sweep.compare import changes_of, contrasts
from campfire_fx.app.sweep.grid import Axes, Point
from campfire_fx.app.sweep.heat import heat_maps
from campfire_fx.app.sweep.page import Setting, write_page
from campfire_fx.app.sweep.results import to_csv
from campfire_fx.app.sweep.runs import Run
from campfire_fx.app.sweep.work import State, as_facts, state_of
from campfire_fx.base.errors import TrainError
from campfire_fx.report.intervals import of_paired_difference
from tests.app.sweep.made import IMAGES, finish, finished, runs

GRID = Axes(("ck", "window"), (0.6, 0.8), ((0, 2), (0, 4), (4, 6), (4, 8)), seeds=(0, 1, 2))


def right(point: Point) -> int:
    """Dense has 360 of 400; CK loses 40 when its era starts at 0; 80 % costs 20 more; seeds differ alike in all."""
    lost = 0
    if point.regime is not None:
        lost = 8 + 20 * (point.sparsity == 0.8) + 40 * (point.regime == "ck" and point.era[0] == 0) + point.seed % 2
    return 360 - lost + 4 * point.seed


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    made = finished(GRID.points(), tmp_path_factory.mktemp("sweep"), right)
    assert len(made) == 3 * (1 + 16)
    return state_of(made)


def test_a_cell_has_means_and_intervals(state: State, tmp_path: Path) -> None:
    dense, cell = state.cells[0], next(c for c in state.cells if (c.point.regime, c.point.sparsity) == ("window", 0.6))
    assert dense.change is None and dense.seeds == cell.seeds == (0, 1, 2)
    assert dense.accuracy.value == pytest.approx(364 / IMAGES) and dense.accuracy.low < 364 / IMAGES
    assert cell.change == pytest.approx(-(8 + 1 / 3) / IMAGES)
    assert cell.change_over_seeds.low < cell.change < cell.change_over_seeds.high < 0
    assert cell.change_over_images.low < cell.change < cell.change_over_images.high < 0
    assert cell.valid == pytest.approx([0.1 * (i + 1) for i in range(8)])
    one = state_of(finished([Point(None), Point("ck", 0.6, (0, 2))], tmp_path, right)).cells[1]
    assert one.change_over_seeds is None
    assert one.change_over_images == of_paired_difference(0, 48, IMAGES)


def test_one_value_is_held_against_another_all_else_being_equal(state: State) -> None:
    found = {(one.axis, one.regime, one.first, one.second): one for one in contrasts(changes_of(state.found))}
    ck = found["era start", "ck", "0", "4"]
    assert ck.gain.value == pytest.approx(40 / IMAGES) and ck.clear and ck.gain.settings == 4
    window = found["era start", "window", "0", "4"]
    assert window.gain.value == pytest.approx(0) and not window.clear
    assert found["era length", "ck", "2", "4"].gain.value == pytest.approx(0)
    assert found["sparsity", "window", "60 %", "80 %"].gain.value == pytest.approx(-20 / IMAGES)
    assert found["regime", "", "ck", "window"].gain.value == pytest.approx(20 / IMAGES)  # the mean over eras
    assert len(found) == 7


def test_seeds_that_have_finished_other_settings_give_no_interval(state: State) -> None:
    changes = changes_of(state.found)
    fewer = [one for one in changes if (one.point.seed, one.point.era) != (2, (0, 4))]
    found = {(one.axis, one.regime): one for one in contrasts(fewer)}
    assert found["sparsity", "ck"].gain.interval is None
    assert changes_of([one for one in state.found if one.point.regime is not None]) == []


def test_heat_maps_show_the_means(state: State) -> None:
    regimes, *eras = heat_maps(changes_of(state.found))
    assert (regimes.columns, [name for name, _ in regimes.rows]) == (("60 %", "80 %"), ["ck", "window"])
    assert [square.text for square in regimes.rows[0][1]] == ["-7.1", "-12.1"] and regimes.settings == 4
    assert [one.title for one in eras] == ["ck, 60 %", "ck, 80 %", "window, 60 %", "window, 80 %"]
    assert eras[1].columns == ("2", "4") and [name for name, _ in eras[1].rows] == ["0", "4"]
    assert [[square.text for square in squares] for _, squares in eras[1].rows] == [["-17.1"] * 2, ["-7.1"] * 2]
    deepest = eras[1].rows[0][1][0]
    assert deepest.ink == "#fff" and deepest.background.startswith("rgb(1")


def test_csv_and_json_say_the_same(state: State) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(state.cells))))
    cells = as_facts(state)["cells"]
    assert len(rows) == len(cells) == 17
    for row, cell in zip(rows, cells, strict=True):
        assert row["regime"] == (cell["regime"] or "dense") and float(row["accuracy"]) == pytest.approx(
            cell["accuracy"]["value"], rel=1e-5
        )
        assert row["seeds"] == "0 1 2" and (row["change"] == "") == (cell["change"] is None)


def test_the_page_needs_nothing_else(state: State, tmp_path: Path) -> None:
    setting = Setting("a <b> sweep", {"data": "digits"}, Here("resnet8", "digits", 8))
    page = write_page(state, setting, tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page) and "a &lt;b&gt; sweep" in page
    assert page.count('class="map"') == 5 and page.count("<figure>") == 3
    assert "51 of 51 runs" in page and "+10.00 (+10.00 to +10.00)" in page
    left = replace(state, left=state.finished[:1], finished=(), found=(), cells=())
    assert "Nothing has finished yet" in write_page(left, setting, tmp_path / "left.html").read_text(encoding="utf-8")


def test_runs_of_other_options_do_not_stand_beside_these(tmp_path: Path) -> None:
    first: Run = finished([Point(None)], tmp_path, right)[0]
    (same,) = runs([Point(None, drops=())], tmp_path)
    assert same.folder == first.folder and same.results(), "what the recipe fills in is the same run"
    (longer,) = runs([Point(None)], tmp_path, epochs=9)
    with pytest.raises(
        TrainError, match=r"its epochs was 8, this sweep has 9\. Give the same options, or another --output"
    ):
        longer.results()
    assert not runs([Point("ck", 0.5)], tmp_path)[0].results()
    finish(longer, 300)
    assert longer.results()["rows"][0]["right"] == 300
