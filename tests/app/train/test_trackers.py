"""Trackers are told the same of a training, go on in the run that they began, and never end a training."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from campfire_fx.app.train import trackers
from campfire_fx.app.train.observers import Course, Epoch
from campfire_fx.app.train.trackers import Kind, Tracking, Wanted, check_trackers, flat
from campfire_fx.base.errors import TrainError

HISTORY = (Epoch(0, 2.0, 0.1, 3.5, 0.1, 0.0, 0.0), Epoch(1, 1.5, 0.25, 3.0, 0.05, 0.4, 0.41, valid5=0.5))
SETTINGS = {"model": "resnet8", "recipe": {"epochs": 2, "drops": [1]}}


class Noted:
    """A tracker that keeps what it is told."""

    opened: list[Noted] = []  # noqa: RUF012  of all

    def __init__(self, wanted: Wanted) -> None:
        self.wanted, self.values, self.whole = wanted, {}, None
        self.run = wanted.run or f"run {len(self.opened)}"
        self.opened.append(self)

    def add(self, step: int, values: dict[str, float]) -> None:
        if "train/rate" in values and values["train/rate"] < 0:
            raise OSError("no server")
        self.values |= {(name, step): value for name, value in values.items()}

    def close(self, *, whole: bool) -> None:
        self.whole = whole


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    monkeypatch.setattr(Noted, "opened", [])
    monkeypatch.setattr(trackers, "TRACKERS", {"noted": Kind("json", Noted)})
    return Noted.opened


def train(tracking: Tracking, course: Course, history=HISTORY) -> None:
    with tracking.watching(course, ()):
        for step in range(course.step + 1, 41):
            tracking.step(step, loss=float(step), rate=0.1)
        tracking.epoch(40, history)


def test_steps_epochs_and_the_final_numbers_are_told(tmp_path: Path, opened: list[Noted]) -> None:
    tracking = Tracking(tmp_path, ("noted", "noted"), SETTINGS)
    train(tracking, Course("sparse", 2, 20))
    tracking.tested("sparse", {"accuracy": 0.75})
    tracking.tested("slim", {"accuracy": 0.75})
    trained, tested, slim = opened
    assert [step for name, step in trained.values if name == "train/loss"] == [10, 20, 30, 40]
    assert trained.values["valid/accuracy", 40] == 0.25 and trained.values["valid/top5", 40] == 0.5
    assert trained.values["sparsity/target", 40] == 0.4 and ("admm/primal", 40) not in trained.values
    assert trained.wanted.settings == {"model": "resnet8", "recipe.epochs": 2, "recipe.drops": [1]}
    assert tested.wanted.run == trained.run == "run 0" and tested.values == {("final/accuracy", 40): 0.75}
    assert slim.wanted.run is None and slim.wanted.network == "slim" and slim.values == tested.values
    assert all(one.whole for one in opened)
    assert json.loads((tmp_path / "trackers.json").read_text()) == {
        "sparse": {"noted": "run 0"}, "slim": {"noted": slim.run}
    }  # fmt: skip


def test_a_resumed_training_goes_on_in_its_run(tmp_path: Path, opened: list[Noted]) -> None:
    with pytest.raises(KeyboardInterrupt), Tracking(tmp_path, ("noted",), {}).watching(Course("dense", 2, 20), ()):
        raise KeyboardInterrupt
    assert opened[0].whole is False
    train(Tracking(tmp_path, ("noted",), {}), Course("dense", 2, 20, step=15))
    train(Tracking(tmp_path, ("noted",), {}), Course("dense", 2, 20))  # another run, over the first
    assert [one.wanted.run for one in opened] == [None, "run 0", None]
    Tracking(tmp_path, ("noted",), {}).begin(Course("dense", 2, 20, step=40), HISTORY)
    assert len(opened) == 3  # there is nothing left to be told


def test_a_tracker_that_fails_does_not_end_the_training(tmp_path: Path, opened, caplog) -> None:
    tracking = Tracking(tmp_path, ("noted",), {})
    with caplog.at_level(logging.WARNING), tracking.watching(Course("dense", 2, 20), ()):
        for step in range(1, 41):
            tracking.step(step, 1.0, rate=-0.1)
        tracking.epoch(40, HISTORY)
    assert [record.getMessage() for record in caplog.records] == [
        "Tracker noted: it failed after step 10 (no server), and gets no more numbers."
    ]


def test_what_cannot_be_opened_is_told_as_the_training_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_wanted: Wanted) -> Any:
        raise ValueError("no key")

    monkeypatch.setattr(trackers, "TRACKERS", {"closed": Kind("json", refuse)})
    with pytest.raises(TrainError, match=r"--tracker closed: it cannot be opened \(no key\). Fix that, or drop it."):
        Tracking(tmp_path, ("closed",), {}).begin(Course("dense", 1, 1), ())


def test_what_is_unknown_or_missing_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainError, match="--tracker comet: it is not known. Give one of tensorboard, wandb, mlflow."):
        check_trackers(["comet"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainError, match="--tracker wandb: it is not installed. Run pip install"):
        check_trackers(["wandb"])


def test_tensorboard_curves_go_on_where_a_resumed_run_does(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin in (0, 30):  # the second time resumed at step 30, though 40 steps had been noted
        tracking = Tracking(tmp_path, ("tensorboard",), {})
        with tracking.watching(Course("sparse", 2, 20, step=begin), ()):
            for step in range(begin + 1, 41):
                tracking.step(step, loss=step + begin, rate=0.1)
            tracking.epoch(40, HISTORY)
    tracking.tested("sparse", {"accuracy": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard/sparse"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(10, 10), (20, 20), (40, 70)]
    assert events.Scalars("sparsity/target")[-1].value == pytest.approx(0.4)
    assert [(point.step, point.value) for point in events.Scalars("final/accuracy")] == [(40, 0.5)]


class FakeRun:
    """What `wandb.init` returns, as far as it is used."""

    def __init__(self, **given: Any) -> None:
        self.given, self.logged, self.id = given, [], given["id"] or "new"
        self.code: int | None = None

    def define_metric(self, name: str, *, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self, *, exit_code: int) -> None:
        self.code = exit_code


def test_weights_and_biases_is_told_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[FakeRun] = []
    init = lambda **given: runs.append(FakeRun(**given)) or runs[-1]  # noqa: E731
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, __spec__=SimpleNamespace()))
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    folder = tmp_path / "digits"
    folder.mkdir()
    for step in (0, 20):
        train(Tracking(folder, ("wandb",), SETTINGS), Course("slim from scratch", 2, 20, step=step))
    first, second = runs
    assert first.given["project"] == "mine" and first.given["group"] == "digits" and first.given["dir"] == str(folder)
    assert first.given["name"] == "digits: slim from scratch" and first.given["config"]["recipe.epochs"] == 2
    assert (first.given["id"], first.given["resume"]) == (None, None)
    assert (second.given["id"], second.given["resume"]) == ("new", "allow")
    assert first.logged[0] == {"train/loss": 10.0, "train/rate": 0.1, "step": 10} and first.code == 0


class FakeMLflow:
    """MlflowClient, as far as it is used, with what the real one refuses: odd names, and too much at once."""

    experiments: dict[str, str] = {}  # noqa: RUF012  of all clients, as of a server
    runs: list[dict[str, Any]] = []  # noqa: RUF012

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        assert name not in self.experiments
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, *, run_name: str, tags: dict[str, str]) -> Any:
        assert experiment_id in self.experiments.values()
        known = {"name": run_name, "tags": tags, "status": "RUNNING", "params": {}, "metrics": []}
        self.runs.append(known)
        return SimpleNamespace(info=SimpleNamespace(run_id=str(len(self.runs) - 1)))

    def log_batch(self, run_id: str, *, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100 and len(metrics) <= 1000
        assert all(re.fullmatch(r"[\w\-./: ]+", one.key) for one in (*metrics, *params))
        self.runs[int(run_id)]["params"] |= {one.key: one.value for one in params}
        self.runs[int(run_id)]["metrics"] += [(one.key, one.value, one.step) for one in metrics]

    def update_run(self, run_id: str, *, status: str) -> None:
        self.runs[int(run_id)]["status"] = status

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[int(run_id)]["status"] = status


@pytest.fixture
def mlflow_runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step)  # noqa: E731
    entities = SimpleNamespace(Metric=metric, Param=lambda key, value: SimpleNamespace(key=key, value=value))
    monkeypatch.setattr(FakeMLflow, "experiments", {})
    monkeypatch.setattr(FakeMLflow, "runs", [])
    module = SimpleNamespace(MlflowClient=FakeMLflow, entities=entities, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return FakeMLflow.runs


def test_mlflow_is_told_its_own_way(tmp_path: Path, mlflow_runs: list[dict[str, Any]]) -> None:
    many = {"overrides": {f"layer{number}.*": 0.4 for number in range(150)}}
    folder = tmp_path / "digits"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt), Tracking(folder, ("mlflow",), many).watching(Course("sparse", 2, 20), ()):
        raise KeyboardInterrupt
    [run] = mlflow_runs
    assert run["status"] == "KILLED" and run["name"] == "digits: sparse" and len(run["params"]) == 150
    assert run["params"]["overrides.layer7._"] == "0.4"
    tracking = Tracking(folder, ("mlflow",), many)
    train(tracking, Course("sparse", 2, 20, step=20))
    tracking.tested("sparse", {"accuracy": 0.75})
    assert mlflow_runs == [run] and run["status"] == "FINISHED" and list(FakeMLflow.experiments) == ["campfire-fx"]
    assert ("train/loss", 30.0, 30) in run["metrics"] and run["metrics"][-1] == ("final/accuracy", 0.75, 40)


def test_settings_become_flat() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": None, "e": {}}) == {"a.b.c": 1, "d": None}
