"""Options of `campfire-fx sweep`, and how their lists are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from campfire_fx.app.cli.terminal import epochs_listed, model_options, numbers
from campfire_fx.app.cli.training_plan import REGIME, SPARSITY
from campfire_fx.app.sweep.cluster import Submitit
from campfire_fx.app.sweep.grid import Axes, eras_of
from campfire_fx.app.sweep.launch import Launcher, Local, useful_at_once
from campfire_fx.app.sweep.paper import LAYOUTS, Layout, layout_named

Data = Annotated[str, typer.Option(help="As for `train`.")]
Model = Annotated[str | None, typer.Option(help="As for `train`.", show_default="resnet8")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of every training.", show_default="the data set's")]
Regime = Annotated[
    str | None,
    typer.Option(help="Regimes, separated by commas; `campfire-fx regimes` lists them.", show_default=REGIME),
]
Sparsity = Annotated[
    str | None, typer.Option(help="Shares of the weights to remove, as 0.4,0.6,0.8.", show_default=str(SPARSITY))
]
Paper = Annotated[
    str | None,
    typer.Option(
        help=f"Train the settings of a table of the Campfire paper ({', '.join(LAYOUTS)}), scaled to your number of"
        " epochs, and show the results beside the paper's.",
        show_default=False,
    ),
]
EraStart = Annotated[
    str | None, typer.Option(help="First epochs of the pruning era, as 2,4,6.", show_default="a fifth of the epochs")
]
EraLength = Annotated[
    str | None, typer.Option(help="Epochs of the pruning era, as 2,4,8.", show_default="two fifths of the epochs")
]
SkipLate = Annotated[bool, typer.Option("--skip-late", help="Leave out eras that end after the last epoch.")]
LearningRates = Annotated[
    str | None, typer.Option(help="Highest learning rates, as 0.05,0.1.", show_default="as for `train`")
]
Drops = Annotated[
    list[str] | None,
    typer.Option(
        help="Epochs at which the learning rate is divided by ten, as 30,60; none: half a cosine. Repeat it for several"
        " schedules.",
        show_default="as for `train`",
    ),
]
Seeds = Annotated[str, typer.Option(help="Seeds, as 0,1,2; each has a dense training of its own.")]
RandomSettings = Annotated[
    int | None, typer.Option("--random", help="Draw N settings of the grid at random; each is trained with all seeds.")
]
FromScratch = Annotated[
    bool, typer.Option("--from-scratch", help="Train the slim widths of each sparse network from new weights, too.")
]
Jobs = Annotated[
    int | None,
    typer.Option(help="Trainings at the same time.", min=1, show_default="one per GPU, else one per --threads cores"),
]
Threads = Annotated[int, typer.Option(help="CPU threads of each training.", min=1)]
Launch = Annotated[
    Literal["local", "submitit"],
    typer.Option(help="Where trainings run: on this machine, or by submitit on a Slurm cluster (extra slurm)."),
]
LaunchOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--launcher-option",
        metavar="NAME=VALUE",
        help="For submitit, as slurm_partition=gpu or timeout_min=240; cluster=local tries it here. Repeatable.",
        show_default=False,
    ),
]
ListOnly = Annotated[bool, typer.Option("--list", help="Show what would be trained and how far it is, and stop.")]
Yes = Annotated[bool, typer.Option("--yes", help="Start, even if these are more than 200 trainings.")]
Output = Annotated[Path | None, typer.Option(help="Folder for runs and results.", show_default="runs/sweep-DATA")]

_JOBS = 8  # of a cluster, where nothing is said
_SET_BY_THE_SWEEP = {
    "--era": "--era-start and --era-length",
    "--networks": "--from-scratch",
    "--formats": "",
    "--resume": "",
    "--show-recipe": "",
    "--json": "--json before the other options",
    "--config": "its options",
}


def refuse_own(extra: Sequence[str]) -> None:
    """Refuse options of `train` that a sweep sets itself."""
    for option in extra:
        name = option.partition("=")[0]
        if name in _SET_BY_THE_SWEEP:
            other = _SET_BY_THE_SWEEP[name]
            raise typer.BadParameter(f"{name}: the sweep sets it itself. Leave it out{other and f', or use {other}'}.")


def axes_of(given: Mapping[str, Any], epochs: int) -> Axes:
    """Return the axes that options ask for."""
    starts, lengths = given["era_start"], given["era_length"]
    if (starts is None) != (lengths is None):
        here, there = ("--era-start", "--era-length") if lengths is None else ("--era-length", "--era-start")
        raise typer.BadParameter(f"{here} is given without {there}. Give both, or neither for the recipe's era.")
    eras: tuple[tuple[int, int] | None, ...] = (None,)
    if starts is not None:
        first, length = whole_numbers(starts, "--era-start"), whole_numbers(lengths, "--era-length")
        eras = eras_of(first, length, epochs, skip_late=given["skip_late"])
    rates, drops = given["learning_rate"], given["drops"]
    return Axes(
        regimes=_once([name.strip() for name in (given["regime"] or REGIME).split(",")], "--regime"),
        sparsities=_once(numbers(given["sparsity"] or str(SPARSITY), "--sparsity"), "--sparsity"),
        eras=eras,
        rates=_once(numbers(rates, "--learning-rate"), "--learning-rate") if rates else (None,),
        drops=_once([epochs_listed(text) for text in drops], "--drops") if drops else (None,),
        seeds=whole_numbers(given["seed"], "--seed"),
    )


def layout_of(given: Mapping[str, Any], epochs: int) -> Layout | None:
    """Return the paper's tables that options ask for, brought to so many epochs; None where none are."""
    if given["paper"] is None:
        return None
    layout = layout_named(given["paper"])
    for name in ("regime", "sparsity", "era_start", "era_length", "learning_rate", "drops", "random"):
        if given[name] is not None:
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"{option}: --paper {given['paper']} sets it. Leave out one of the two.")
    return layout.scaled(epochs)


def launcher_of(given: Mapping[str, Any], device: str, folder: Path) -> Launcher:
    """Return what runs the trainings."""
    wishes, threads = given["launcher_option"], given["threads"]
    if given["launcher"] == "local":
        if wishes:
            raise typer.BadParameter(
                f"--launcher-option {wishes[0]}: it is for submitit. Give --launcher submitit, too."
            )
        return Local(given["jobs"] or useful_at_once(device, threads), threads)
    return Submitit(folder / "submitit", given["jobs"] or _JOBS, threads, model_options(wishes))


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return the whole numbers of an option, written with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} of {option} is not a list of whole numbers. Write them as 2,4,6.")
    return _once([int(part) for part in parts], option)


def _once(values: Sequence[Any], option: str) -> tuple[Any, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise typer.BadParameter(f"{option}: {twice} is given twice. Give each value once.")
    return tuple(values)
