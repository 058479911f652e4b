"""Trainings as jobs of submitit: here on this machine, in place of a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import campfire_fx
from campfire_fx.app.sweep.cluster import Submitit
from campfire_fx.app.sweep.grid import Point
from campfire_fx.base.errors import TrainError
from tests.app.sweep.made import runs


def test_a_job_ends_with_the_code_of_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(Path(campfire_fx.__file__).parents[1]))
    bad = replace(runs([Point("ck", 0.5)], tmp_path)[0], arguments=("train", "--epochs", "0"))
    launcher = Submitit(tmp_path / "submitit", 2, parameters={"cluster": "local", "timeout_min": 10})
    (ended,) = launcher.launch([bad])
    assert ended.run == bad and ended.code == 2 and "epochs 0" in ended.said


def test_what_submitit_does_not_know_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(TrainError, match="--launcher-option: submitit does not take it"):
        next(Submitit(tmp_path, 2, parameters={"cluster": "local", "no_such_wish": 1}).launch([]))


def test_without_submitit_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campfire_fx.app.sweep.cluster.importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainError, match=r'--launcher submitit: .* Run pip install "submitit>=[\d.]+"\.'):
        Submitit(tmp_path, 2)
