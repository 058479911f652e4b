"""Trackers: where people follow their trainings beside log.csv; TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from campfire_fx.app.train.observers import Course, Epoch, Observer
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import install_command

logger = logging.getLogger(__name__)

RUNS = "trackers.json"
_EVERY = 10  # steps between two points of a curve
_PROJECT = "campfire-fx"
_ODD, _MOST = re.compile(r"[^\w.:/ -]"), 100
"""Of MLflow: what no name may hold, as the star of a pattern of layers, and how many parameters it takes at once."""
_OF_AN_EPOCH = {
    "valid/accuracy": "valid",
    "valid/top5": "valid5",
    "sparsity/target": "target",
    "sparsity/true": "sparsity",
    "sparsity/macs_left": "macs_left",
    "sparsity/penalty": "penalty",
    "admm/primal": "primal",
    "admm/dual": "dual",
}


class Tracker(Protocol):
    """The run of one network in one tracker.

    Attributes:
        run: by which it is found again; None where that is not needed.
    """

    run: str | None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note values by name, after so many steps."""

    def close(self, *, whole: bool) -> None:
        """End it: finished, or stopped."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a tracker is to open.

    Attributes:
        folder: of the training run.
        network: its name.
        step: steps done before; what was noted of later ones does not count.
        run: that goes on; None: a new one.
        settings: of the training run, flat.
    """

    folder: Path
    network: str
    step: int
    run: str | None
    settings: Mapping[str, Any]

    @property
    def title(self) -> str:
        """As people see it."""
        return f"{self.folder.name}: {self.network}"


class _TensorBoard:
    """Files under `tensorboard/NETWORK/` of the run folder."""

    run: str | None = None

    def __init__(self, wanted: Wanted) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = wanted.folder / "tensorboard" / wanted.network.replace(" ", "-")
        self._writer = SummaryWriter(str(place), purge_step=wanted.step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, whole: bool) -> None:  # noqa: ARG002  its files do not say
        self._writer.close()


class _WeightsAndBiases:
    """A run of Weights & Biases, in the group of the run folder; WANDB_PROJECT, WANDB_MODE and others hold."""

    def __init__(self, wanted: Wanted) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            group=wanted.folder.name,
            job_type=wanted.network,
            name=wanted.title,
            dir=str(wanted.folder),
            config=dict(wanted.settings),
            id=wanted.run,
            resume="allow" if wanted.run else None,
        )
        self._run.define_metric("*", step_metric="step")  # its own steps cannot go back, as a resumed run does
        self.run: str | None = self._run.id

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def close(self, *, whole: bool) -> None:
        self._run.finish(exit_code=0 if whole else 1)


class _MLflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI says or it itself; MLFLOW_EXPERIMENT_NAME holds."""

    def __init__(self, wanted: Wanted) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        if wanted.run is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            known = self._client.get_experiment_by_name(name)
            experiment = self._client.create_experiment(name) if known is None else known.experiment_id
            tags = {"run": wanted.folder.name, "network": wanted.network}
            run = self._client.create_run(experiment, run_name=wanted.title, tags=tags).info.run_id
            told = [Param(_ODD.sub("_", name), str(value)) for name, value in wanted.settings.items()]
            for start in range(0, len(told), _MOST):
                self._client.log_batch(run, params=told[start : start + _MOST])
        else:
            run = wanted.run
            self._client.update_run(run, status="RUNNING")
        self.run: str | None = run

    def add(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self.run, metrics=[self._metric(n, value, now, step) for n, value in values.items()])

    def close(self, *, whole: bool) -> None:
        self._client.set_terminated(self.run, "FINISHED" if whole else "KILLED")


class Kind(NamedTuple):
    """A tracker that can be asked for: the package that it needs, and what opens it."""

    package: str
    open: Callable[[Wanted], Tracker]


TRACKERS: Mapping[str, Kind] = {
    "tensorboard": Kind("tensorboard", _TensorBoard),
    "wandb": Kind("wandb", _WeightsAndBiases),
    "mlflow": Kind("mlflow", _MLflow),
}


def check_trackers(names: Sequence[str]) -> None:
    """Raise a TrainError for a tracker that is unknown or not installed."""
    for name in names:
        if name not in TRACKERS:
            raise TrainError(f"--tracker {name}: it is not known. Give one of {', '.join(TRACKERS)}.")
        package = TRACKERS[name].package
        if importlib.util.find_spec(package) is None:
            raise TrainError(f"--tracker {name}: it is not installed. Run {install_command(name)}.")


class Tracking(Observer):
    """Tells trackers of a training: loss and learning rate of steps, what each epoch gave, and the final numbers.

    A tracker that fails in the middle is given up with a warning; the training goes on.

    Args:
        folder: the run's output folder; `trackers.json` in it says which of the trackers' runs are its own.
        names: of TRACKERS.
        settings: of the run, as nested plain data.

    Raises:
        TrainError: a tracker is not installed, or as a training begins, cannot be opened.
    """

    def __init__(self, folder: Path, names: Sequence[str], settings: Mapping[str, Any]) -> None:
        check_trackers(names)
        self.folder, self.names, self.settings = folder, tuple(dict.fromkeys(names)), flat(settings)
        self._open: dict[str, Tracker] = {}
        self._steps: dict[str, int] = {}

    def begin(self, course: Course, history: Sequence[Epoch]) -> None:  # noqa: ARG002  it was told of these before
        """Open a run of each tracker, or go on with it."""
        self._steps[course.network] = course.step
        if course.step < course.epochs * course.per_epoch:
            self._begin(course.network, course.step, again=course.step > 0)

    def step(self, step: int, loss: float, rate: float) -> None:
        """Note every tenth step."""
        if step % _EVERY == 0:
            self._add(step, {"train/loss": loss, "train/rate": rate})

    def epoch(self, step: int, history: Sequence[Epoch]) -> None:
        """Note the epoch."""
        self._steps[next(reversed(self._steps))] = step
        values = {name: getattr(history[-1], field) for name, field in _OF_AN_EPOCH.items()}
        self._add(step, {name: value for name, value in values.items() if value is not None})

    def tested(self, network: str, values: Mapping[str, float]) -> None:
        """Note the final numbers of a network in its run; one that was not trained gets a run for them."""
        step = self._steps.get(network, max(self._steps.values(), default=0))
        self._begin(network, step + 1, again=True)
        self._add(step, {f"final/{name}": value for name, value in values.items()})
        self.end(whole=True)

    def end(self, *, whole: bool) -> None:
        """Close the runs."""
        for tracker in self._open.values():
            tracker.close(whole=whole)
        self._open = {}

    def _begin(self, network: str, step: int, *, again: bool) -> None:
        path = self.folder / RUNS
        known: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for name in self.names:
            run = known.get(network, {}).get(name) if again else None
            try:
                self._open[name] = tracker = TRACKERS[name].open(Wanted(self.folder, network, step, run, self.settings))
            except Exception as error:
                why = str(error).partition("\n")[0].rstrip(".")
                raise TrainError(f"--tracker {name}: it cannot be opened ({why}). Fix that, or drop it.") from error
            if tracker.run is not None:
                known.setdefault(network, {})[name] = tracker.run
        if known:
            write_text(path, json.dumps(known, indent=1) + "\n", TrainError)

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                tracker.add(step, values)
            except Exception as error:  # noqa: BLE001  days of training are worth more than a curve
                logger.warning("Tracker %s: it failed after step %d (%s), and gets no more numbers.", name, step, error)
                del self._open[name]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings in one level, by names with dots."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
