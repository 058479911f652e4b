"""Tallies: top-1 everywhere, top-5 of more than five classes, in the log, the table, the results and the page."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx.app.cli.tables import outcome_table
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.loop import fit
from campfire_fx.app.train.outcome import Outcome, Row
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.tally import Tally, counts_five, pack, right_among, tally, unpack
from campfire_fx.app.train.training_log import TrainingLog, read_log
from campfire_fx.report.style import plain


def data(classes: int) -> ImageData:
    """One image of each class, which says by its first pixel which it is."""
    targets = torch.arange(classes)
    images = targets.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8).contiguous()
    split = Split(images, targets)
    return ImageData("x", tuple(map(str, range(classes))), split, split, split, False, (0.0,), (1 / 255,))


class Near(nn.Module):
    """Answers with the classes around the right one: of the first five it is the third, where `off` is 2."""

    def __init__(self, classes: int, off: int) -> None:
        super().__init__()
        self.classes, self.off = classes, off
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        says = x[:, 0, 0, 0].round().long() + self.off
        return -(torch.arange(self.classes) - says.unsqueeze(1)).abs().float() * self.scale


def test_right_answers_are_counted() -> None:
    outputs = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]])
    targets = torch.tensor([0, 1, 3])
    assert [right_among(outputs, targets, first) for first in (1, 2, 3, 4, 9)] == [1, 1, 2, 3, 3]
    assert Tally(right=3, images=4, among_five=4).accuracy == 0.75
    assert Tally(right=3, images=4, among_five=4).top5 == 1.0 and Tally(right=3, images=4).top5 is None


@pytest.mark.parametrize(("off", "right", "among"), [(0, 1.0, 1.0), (1, 0.0, 1.0), (2, 0.0, 1.0), (6, 0.0, 0.0)])
def test_top5_of_many_classes(off: int, right: float, among: float) -> None:
    images = data(120)
    found = tally(Near(140, off), images.test, images)
    assert found.images == 120 and found.accuracy == right
    assert found.top5 is not None and found.top5 == pytest.approx(among, abs=3 / 120)


def test_five_classes_have_no_top5() -> None:
    assert not counts_five(2) and not counts_five(5) and counts_five(6) and counts_five(1000)
    images = data(5)
    found = tally(Near(5, 0), images.test, images)
    assert found == Tally(right=5, images=5) and found.which is not None and unpack(found.which).tolist() == [True] * 5


def test_the_log_says_it(tmp_path: Path) -> None:
    images = data(120)
    log = TrainingLog(tmp_path)
    recipe = Recipe(epochs=1, batch=60, rate=1e-9, decay=0.0, augment="none")
    (epoch,) = fit(Near(140, 1), images, recipe, seed=0, title="dense", host=Host(observer=log))
    assert epoch.valid == 0.0 and epoch.valid5 == pytest.approx(1.0, abs=0.03)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert float(rows[0]["valid_top5"]) == epoch.valid5
    assert read_log(tmp_path / "log.csv")["dense"][0].valid5 == epoch.valid5


def test_the_table_and_the_results_say_it() -> None:
    row = Row(name="dense", right=75, images=100, parameters=10, nonzero=10, macs=10, latency_ms=1.0, bytes=10)
    few = Outcome((row,), (), None, None, None, 0.0)
    many = replace(few, rows=(replace(row, among_five=92),))
    assert "top-5" not in plain(outcome_table(few), 120) and json.loads(few.to_json())["rows"][0]["top5"] is None
    shown = plain(outcome_table(many), 120)
    assert "top-5" in shown and "75.00 %" in shown and "92.00 %" in shown
    assert json.loads(many.to_json())["rows"][0]["top5"] == 0.92


def test_a_run_without_a_zero_says_what_to_set() -> None:
    row = Row(name="sparse", right=75, images=100, parameters=10, nonzero=10, macs=10, latency_ms=1.0, bytes=10)
    settings = {"regime": "prune-train", "sparsity": 0.7}
    empty = Outcome((row,), (), 0.0, 0.0, 0.0, 0.0, settings=settings)
    told = " ".join(plain(outcome_table(empty), 120).split())
    assert "regime 'prune-train' has pruned nothing. Give a larger strength" in told and "--set NAME=VALUE" in told
    assert "pruned nothing" not in plain(outcome_table(replace(empty, sparsity=0.4)), 120)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_which_images_are_right_survives_as_text(flags: list[bool]) -> None:
    assert unpack(pack(torch.tensor(flags))).tolist() == flags
