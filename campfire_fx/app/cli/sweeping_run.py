"""A run of the sweep command: what it plans and refuses, what it says on the way and at the end."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from campfire_fx.app.cli.sweeping_options import axes_of, launcher_of, layout_of, refuse_own, whole_numbers
from campfire_fx.app.cli.sweeping_tables import beside_table, cells_table
from campfire_fx.app.cli.terminal import console, errors, show, show_json
from campfire_fx.app.cli.training import train_command
from campfire_fx.app.cli.training_plan import Planned, planned
from campfire_fx.app.sweep.beside import Beside, Here, beside, beside_facts
from campfire_fx.app.sweep.grid import Point
from campfire_fx.app.sweep.launch import Launcher
from campfire_fx.app.sweep.page import PAGE, Setting, write_page
from campfire_fx.app.sweep.runs import Run, check_regimes, runs_of
from campfire_fx.app.sweep.work import State, as_facts, state_of, work, write_tables
from campfire_fx.app.train.data import check_data, open_data
from campfire_fx.app.train.models import check_model
from campfire_fx.app.train.stopping import Stopped, stopping
from campfire_fx.base.disk.lock import alone_in
from campfire_fx.base.errors import TrainError
from campfire_fx.report.numbers import plural
from campfire_fx.report.pictures import installed
from campfire_fx.report.table import Column, FittedTable

_MANY = 200  # runs that nobody means to begin by accident


def sweep(given: Mapping[str, Any], extra: Sequence[str]) -> None:
    """Plan a sweep, refuse what is known to be wrong, train what is left, and show what came of it.

    Args:
        given: the options by the names of `sweep_command`'s parameters.
        extra: other options, which are those of `campfire-fx train`.
    """
    refuse_own(extra)
    tell = partial(show, on=errors if given["as_json"] else console)
    common = ["--data", given["data"], "--threads", str(given["threads"])]
    for name in ("model", "epochs"):
        common += [] if given[name] is None else [f"--{name}", str(given[name])]
    first = plan([*common, *extra], whole=False)
    check_data(first.data)
    check_model(first.settings.model)
    folder = given["output"] or Path("runs") / f"sweep-{Path(given['data']).name}"
    layout = layout_of(given, first.recipe.epochs)
    points = _points(given, first) if layout is None else layout.points(whole_numbers(given["seed"], "--seed"))
    runs = runs_of(points, [*common, *extra], folder, plan, from_scratch=given["from_scratch"])
    launcher = launcher_of(given, first.machine.device, folder)
    state = state_of(runs)
    if given["list_only"]:
        show_json(_listed_facts(runs, state)) if given["as_json"] else show(_listed(runs, state, launcher.at_once))
        return
    if state.left:
        state = _train(runs, state, first, folder, launcher, tell)
    tables = beside(layout, state.cells) if layout else []
    if given["as_json"]:
        show_json(as_facts(state) | {"paper": beside_facts(tables)})
    else:
        show(Group(cells_table(state.cells), *(beside_table(one, _here(first)) for one in tables)))
    page = _page(state, tables, first, folder)
    tell(f"Written to {folder}/: {page}sweep.csv, sweep.json, and a folder for each run in runs/.")


def _here(first: Planned) -> Here:
    return Here(first.settings.model, first.data, first.recipe.epochs)


def _page(state: State, tables: Sequence[Beside], first: Planned, folder: Path) -> str:
    """Write the page, if it can be drawn here; return its name, for the sentence about what was written."""
    if not installed() or importlib.util.find_spec("jinja2") is None:
        return ""
    recipe = asdict(first.recipe)
    own = {"era", "rate", "drops", "fresh_rate"}
    facts = {"data": first.data, "model": first.settings.model, **first.settings.arguments}
    facts |= {name: value for name, value in recipe.items() if name not in own}
    title = f"{first.settings.model} on {Path(first.data).name}: a sweep"
    return f"{write_page(state, Setting(title, facts, _here(first)), folder / PAGE, tables).name}, "


def plan(arguments: Sequence[str], *, whole: bool = True) -> Planned:
    """Return what options of `campfire-fx train` ask for, as that command would read them.

    Args:
        arguments: the options.
        whole: they are those of a run, regime and all, and are checked together.
    """

    @wraps(train_command)
    def asked(**given: Any) -> Planned:
        return planned(given, whole=whole)

    reader = typer.Typer()
    reader.command()(asked)
    found = typer.main.get_command(reader).main(list(arguments), "campfire-fx sweep", standalone_mode=False)
    assert isinstance(found, Planned)
    return found


def _points(given: Mapping[str, Any], first: Planned) -> tuple[Point, ...]:
    axes = axes_of(given, first.recipe.epochs)
    settings = axes.settings if given["random"] is None else min(given["random"], axes.settings)
    dense = len(axes.rates) * len(axes.drops)
    count = (settings + dense) * len(axes.seeds)
    if count > _MANY and not given["yes"] and not given["list_only"]:
        raise TrainError(
            f"Sweep: these are {count:,} trainings ({settings:,} settings and {plural(dense, 'dense one')},"
            f" {plural(len(axes.seeds), 'seed')}). Give --yes to do them, --random n to draw some, or shorter lists."
        )
    return axes.points(given["random"])


def _train(runs: Sequence[Run], state: State, first: Planned, folder: Path, launcher: Launcher, tell: Any) -> State:
    data = open_data(first.data, first.where)  # a download or a cache is made once
    trained = first.start.open(first.where.download) if first.start is not None else None
    check_regimes(runs, first.settings, data, trained)
    left = state.time_left(launcher.at_once)
    tell(
        f"{plural(len(runs), 'run')}, {len(state.left)} to do{left and f' in {left}'}, {launcher.at_once} at a time:"
        f" {first.settings.model} on {first.data}, {plural(first.recipe.epochs, 'epoch')}."
    )
    with alone_in(folder, TrainError), stopping():
        try:
            return work(runs, folder, launcher, tell)
        except Stopped as stopped:
            name = signal.Signals(stopped.number).name
            said = f"Stopped by {name}; running trainings have saved. Run the same command again to continue."
            raise Stopped(stopped.number, said) from stopped
        finally:
            write_tables(state_of(runs), folder)


def _listed(runs: Sequence[Run], state: State, at_once: int) -> RenderableType:
    columns = (Column("run", right=False), Column("state", right=False))
    done = set(state.finished_names)
    rows = [(run.name, "finished" if run.name in done else "to do") for run in runs]
    left = state.time_left(at_once) or ("not known before one has finished" if state.left else "nothing left")
    note = f"{len(state.left)} to do, {at_once} at a time: {left}."
    return Group(FittedTable(plural(len(runs), "run"), columns, rows), Text(note))


def _listed_facts(runs: Sequence[Run], state: State) -> list[dict[str, Any]]:
    done = set(state.finished_names)
    return [
        {"name": run.name, "finished": run.name in done, "command": ["campfire-fx", *run.arguments]} for run in runs
    ]
