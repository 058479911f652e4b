"""Logs: a CSV row per network and epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from campfire_fx.app.train.observers import Course, Epoch
from campfire_fx.app.train.training_log import TrainingLog

HISTORY = (Epoch(0, 2.0, 0.1, 3.5, 0.1, 0.0, 0.0), Epoch(1, 1.5, 0.25, 3.0, 0.05, 0.4, 0.41))


def test_rows_are_those_of_the_history(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    log.begin(Course("dense", 2, 5), ())
    log.epoch(5, HISTORY[:1])
    log.begin(Course("slim from scratch", 2, 5, step=10), HISTORY)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["network"], row["epoch"], row["valid_accuracy"]) for row in rows] == [
        ("dense", "0", "0.1"),
        ("slim from scratch", "0", "0.1"),
        ("slim from scratch", "1", "0.25"),
    ]
    assert rows[2]["rate"] == "0.05" and rows[2]["target"] == "0.4" and rows[2]["sparsity"] == "0.41"
    log.begin(Course("slim from scratch", 2, 5, step=5), HISTORY[:1])  # resumed from an older checkpoint
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
