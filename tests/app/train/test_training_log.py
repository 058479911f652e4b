"""Logs: a CSV row per network and epoch; TensorBoard's curves go on where a resumed run does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from campfire_fx.app.train.training_log import Epoch, TrainingLog
from campfire_fx.base.errors import TrainError

HISTORY = (Epoch(0, 2.0, 0.1, 3.5, 0.1, 0.0, 0.0), Epoch(1, 1.5, 0.25, 3.0, 0.05, 0.4, 0.41))


def test_rows_are_those_of_the_history(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    log.begin("dense", 0, ())
    log.epoch("dense", 5, HISTORY[:1])
    log.begin("slim from scratch", 10, HISTORY)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["network"], row["epoch"], row["valid_accuracy"]) for row in rows] == [
        ("dense", "0", "0.1"),
        ("slim from scratch", "0", "0.1"),
        ("slim from scratch", "1", "0.25"),
    ]
    assert rows[2]["rate"] == "0.05" and rows[2]["target"] == "0.4" and rows[2]["sparsity"] == "0.41"
    log.begin("slim from scratch", 5, HISTORY[:1])  # resumed from an older checkpoint
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_tensorboard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainError, match=r"--tensorboard: it is not installed. Run pip install 'campfire-fx\[tensorb"):
        TrainingLog(tmp_path, tensorboard=True)


def test_tensorboard_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin in (0, 30):  # the second time resumed at step 30, though 40 steps had been noted
        log = TrainingLog(tmp_path, tensorboard=True)
        log.begin("sparse", begin, ())
        for step in range(begin + 1, 41):
            log.step(step, loss=step + begin, rate=0.1)
        log.epoch("sparse", 40, HISTORY)
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard/sparse"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(10, 10), (20, 20), (40, 70)]
    assert events.Scalars("sparsity/target")[-1].value == pytest.approx(0.4)
