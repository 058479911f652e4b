"""A sweep at work: what is left of it, how long that takes, and the line that each finished run brings."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campfire_fx.app.sweep.grid import label
from campfire_fx.app.sweep.launch import LOG, Ended, Launcher
from campfire_fx.app.sweep.results import Cell, Finished, cells_of, read_runs, to_csv, to_facts
from campfire_fx.app.sweep.runs import Run
from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import TrainError
from campfire_fx.report.numbers import percent, plural

CSV, JSON = "sweep.csv", "sweep.json"


@dataclass(frozen=True, slots=True)
class State:
    """How far a sweep has come.

    Attributes:
        finished, left: its runs.
        found: the networks that the finished ones trained.
        cells: what the finished ones say, by setting; the slim widths from scratch come last.
        seconds: of one training, as the finished ones took; None where there is none.
    """

    finished: tuple[Run, ...]
    left: tuple[Run, ...]
    found: tuple[Finished, ...]
    cells: tuple[Cell, ...]
    seconds: float | None

    @property
    def finished_names(self) -> list[str]:
        """Names of the runs that have finished."""
        return [run.name for run in self.finished]

    def time_left(self, at_once: int) -> str:
        """Say how long what is left takes, so many at a time; nothing where that is not known."""
        if self.seconds is None or not self.left:
            return ""
        return told(self.seconds * -(-len(self.left) // at_once))


def state_of(runs: Sequence[Run]) -> State:
    """Read what there is of a sweep.

    Raises:
        TrainError: a run is of a sweep with other options.
    """
    found, scratch = read_runs(runs)
    finished = tuple(run for run in runs if run.finished)
    took = [one.facts["seconds"] for one in found]
    done = {run.name for run in finished}
    return State(
        finished,
        tuple(run for run in runs if run.name not in done),
        tuple(found),
        (*cells_of(found), *cells_of(scratch, found, scratch=True)),
        statistics.median(took) if took else None,
    )


def work(runs: Sequence[Run], folder: Path, launcher: Launcher, say: Callable[[str], None]) -> State:
    """Train what is left, writing the tables after each run; what fails does not stop the others.

    Raises:
        TrainError: some runs failed.
        Stopped: a signal came; what was running has saved.
    """
    state, failed = state_of(runs), []
    done = len(state.finished)
    with closing(launcher.launch(state.left)) as ends:
        for ended in ends:
            if ended.code != 0:
                failed.append(ended)
                why = ended.said or f"exit code {ended.code}"
                say(f"{ended.run.name}: failed ({why}). See {ended.run.folder / LOG}.")
                continue
            done += 1
            state = state_of(runs)
            write_tables(state, folder)
            say(_line(ended, state, done, len(runs), launcher.at_once))
    if failed:
        raise TrainError(
            f"{len(failed)} of {plural(len(runs), 'run')} failed, the first is {failed[0].run.name}: {failed[0].said}"
            f" Fix it, and run the same command again."
        )
    return state


def _line(ended: Ended, state: State, done: int, count: int, at_once: int) -> str:
    results, point = ended.run.results(), ended.run.point
    name = "dense" if point.regime is None else "sparse"
    accuracy = next((row["accuracy"] for row in results.get("rows", ()) if row["name"] == name), None)
    right = "" if accuracy is None else f": {percent(accuracy, 2)}"
    left = state.time_left(at_once)
    after = f"; {count - done} left, {left}" if left else ""
    return f"{done} of {count}  {label(point)}, seed {point.seed}{right} in {told(ended.seconds)}{after}"


def write_tables(state: State, folder: Path) -> None:
    """Write the cells as CSV and JSON."""
    write_text(folder / CSV, to_csv(state.cells), TrainError)
    write_text(folder / JSON, json.dumps(as_facts(state), indent=1) + "\n", TrainError)


def as_facts(state: State) -> dict[str, Any]:
    """Return a sweep as plain data."""
    return {
        "finished": state.finished_names,
        "left": [run.name for run in state.left],
        "seconds_of_a_run": state.seconds,
        "cells": [to_facts(cell) for cell in state.cells],
    }


def told(seconds: float) -> str:
    """Say how long something takes."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
