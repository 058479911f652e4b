"""A run of the training command: the processes, their data and threads, and what they say on the way and at the end."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, replace
from functools import partial

import torch

from campfire_fx.app.cli.epoch_lines import EpochLines
from campfire_fx.app.cli.run_config import config_text
from campfire_fx.app.cli.tables import outcome_table, reloaded_table
from campfire_fx.app.cli.terminal import console, errors, show
from campfire_fx.app.cli.training_plan import Planned
from campfire_fx.app.runs.verdict import verdict
from campfire_fx.app.train import job
from campfire_fx.app.train.checkpoint_manager import check_output
from campfire_fx.app.train.data import ImageData, open_data
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.observers import Observer
from campfire_fx.app.train.pictures import Skips
from campfire_fx.app.train.ranks import join_ranks
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.stopping import stopping
from campfire_fx.report.numbers import percent, plural
from campfire_fx.sparsity.schedule import not_over

_SMALL = 64 * 32 * 32  # pixels in a batch
_FEW = 50


def train(planned: Planned, *, as_json: bool = False, quiet: bool = False) -> None:
    """Open data and trained weights, run the job in as many processes as there are, and show what came of it.

    Args:
        planned: what to do.
        as_json: print the outcome as JSON, and all else on standard error.
        quiet: say nothing before the outcome.
    """
    plan, settings, machine, start = planned.recipe, planned.settings, planned.machine, planned.start
    data, where = planned.data, planned.where
    where_to = errors if as_json else console
    tell = _say_nothing if quiet else partial(show, on=where_to)
    with join_ranks(machine.device) as ranks, stopping() as stop:
        if not ranks.first:
            logging.getLogger("campfire_fx").setLevel(logging.ERROR)
        ranks.from_first(lambda: check_output(settings.folder, settings.resume))
        with ranks.first_goes_first():  # a download or a cache is made once
            images = open_data(data, where)
            trained = start.open(where.download) if start is not None else None
        settings = replace(settings, start=trained)
        torch.set_num_threads(machine.threads or useful_threads(images, plan))
        settings = replace(settings, config=config_text(planned, torch.get_num_threads()))
        workers = _useful_workers(ranks.count) if machine.workers is None else machine.workers
        if ranks.first:
            tell(_plan(images, plan, settings, ranks.count) + _size_told(planned, images))
        observer = EpochLines(where_to) if ranks.first and not quiet else Observer()
        host = Host(ranks, workers if where.streamed else 0, observer=observer, stop=stop)
        outcome = job.run(settings, images, plan, show=tell, host=host)
        if not ranks.first:
            return
    if outcome.skipped:
        tell(f"{Skips(names=list(outcome.skipped)).summary()} All are listed in {settings.folder / 'skipped.txt'}.")
    if as_json:
        print(outcome.to_json())  # noqa: T201  rich would wrap it
        return
    if outcome.reloaded:
        show(reloaded_table(outcome))
    show(outcome_table(outcome))
    names = ", ".join(f"{name}.ckpt" for name in ("dense", "sparse") if settings.networks in ("all", name))
    rest = ", slim.*, the other networks' .safetensors" if outcome.reloaded else ", dense.safetensors"
    show(f"Written to {settings.folder}/: {names}{rest}, log.csv, results.json, and config.yaml.")
    found = verdict([asdict(row) for row in outcome.rows])
    if found is not None:
        show(f"{found.line}.\n{found.note}")


def _say_nothing(_content: object) -> None:
    return


def useful_threads(data: ImageData, recipe: Recipe) -> int:
    """Return how many threads do more than they cost.

    Where a step is short one does; else one for each core that is idle: threads that wait for a busy core make every
    step many times slower.
    """
    _, height, width = data.shape
    if recipe.batch * height * width < _SMALL:
        return 1
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, torch.get_num_threads() - busy)


def _useful_workers(processes: int) -> int:
    return max(1, (os.cpu_count() or 1) // processes)


def _plan(data: ImageData, recipe: Recipe, settings: job.JobSettings, processes: int) -> str:
    channels, height, width = data.shape
    held = "the test images for validation too" if data.valid is data.test else f"{len(data.valid):,} validation"
    shared = f" shared by {processes} processes" if processes > 1 else ""
    batch = min(recipe.batch, len(data.train))
    return (
        f"{data.name}: {len(data.train):,} training, {held} and {len(data.test):,} test images"
        f" of {channels} x {height} x {width}, {len(data.classes)} classes.\n"
        f"{settings.model}, {plural(recipe.epochs, 'epoch')} of batches of {batch}{shared};"
        f" {_pruning(recipe, settings)}learning rate up to {recipe.rate:g};"
        f" {plural(torch.get_num_threads(), 'thread')}.{_warnings(data, recipe, settings)}"
    )


def _size_told(planned: Planned, data: ImageData) -> str:
    """Return why images are of this size, where weights that do not say it are to be given them."""
    start, side = planned.start, data.shape[-1]
    if start is None or not start.assumed or planned.given["image_size"] or planned.given["recipe"]:
        return ""
    why = f"as usual for {start.model}" if start.images and planned.recipe.image_size else "as the data are read"
    return f"\nThe weights do not say the size of their images: {side} px, {why}. --image-size overrides it."


def _pruning(recipe: Recipe, settings: job.JobSettings) -> str:
    if settings.networks == "dense":
        return "dense alone; "
    target = settings.arguments.get("target")
    aim = (
        f"{', '.join(f'{cost}={value:g}' for cost, value in target.items())}" if target else percent(settings.sparsity)
    )
    return f"{settings.regime} to {aim} in epochs {recipe.era[0]} to {recipe.era[1]}; "


def _warnings(data: ImageData, recipe: Recipe, settings: job.JobSettings) -> str:
    """Return what a user may not have meant, a line each."""
    told = ""
    late = not_over(recipe.era, recipe.epochs)
    if settings.networks != "dense" and late:
        told += f"\nWarning: {late}. Give an earlier --era, or more --epochs."
    if settings.freeze and settings.start is None and ":" not in settings.model:  # a factory may give trained weights
        told += "\nWarning: --freeze keeps new weights as they were drawn. Give trained ones, by --weights or --from."
    if len(data.test) < _FEW:
        told += f"\nWarning: accuracy on {plural(len(data.test), 'test image')} says little. Give more test images."
    return told
