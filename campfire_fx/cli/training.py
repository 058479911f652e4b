"""`campfire-fx train`: the main job."""

from __future__ import annotations

import os
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from campfire_fx.cli.tables import outcome_table, reloaded_table
from campfire_fx.cli.terminal import console, era_span, errors, show
from campfire_fx.report.numbers import percent, plural
from campfire_fx.train import job
from campfire_fx.train.data import ImageData, Where, open_data
from campfire_fx.train.recipe import Recipe, recipe_for

_SMALL = 64 * 32 * 32  # pixels in a batch


class Residual(str, Enum):
    """How `shrink` treats residual streams."""

    union = "union"
    gate = "gate"


def train_command(
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar10, or a folder of images (train/ and test/, or classes).")
    ] = "digits",
    model: Annotated[
        str, typer.Option(help="resnet8, resnet14, resnet20, a torchvision name, or package.module:factory.")
    ] = "resnet8",
    regime: Annotated[
        str,
        typer.Option(help="combined, window, ck, inter-epoch, filter, fine-fc, block-fc, unstructured, or N:M as 2:4."),
    ] = "combined",
    sparsity: Annotated[float, typer.Option(help="Share of the weights of each layer to remove, in [0, 1).")] = 0.7,
    epochs: Annotated[int | None, typer.Option(help="Epochs for each network.", show_default="the data set's")] = None,
    era: Annotated[
        str | None, typer.Option(help="Pruning era START:END in epochs.", show_default="a fifth to six tenths")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.", show_default="the data set's")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="0.1")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.", show_default="the data set's")] = None,
    residual: Annotated[Residual, typer.Option(help="How residual streams are shrunk.")] = Residual.union,
    seed: Annotated[int, typer.Option(help="Same seed, machine and threads: same result.")] = 0,
    image_size: Annotated[int | None, typer.Option(help="Resize images to this side.", min=8)] = None,
    data_root: Annotated[Path, typer.Option(help="Where data sets known by name lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set from its makers.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for what is written.", show_default="runs/DATA")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads.", min=1, show_default="1 for small images, else one per idle core")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else.")] = False,
) -> None:
    """Train dense and sparse, shrink, verify, export, reload, and compare in one table.

    Trains a small ResNet dense, and sparse with the same start and budget; shrinks the sparse one and proves that the
    output is the same; exports the slim network, loads each file back and compares; trains the slim widths from
    scratch, too. Nothing is fetched unless you say --download.

    **Examples**

        campfire-fx train
        campfire-fx train --data fashion-mnist --download --epochs 8
        campfire-fx train --data path/to/images --model resnet20 --sparsity 0.6
    """
    span = era_span(era)
    recipe = recipe_for(data, epochs=epochs, era=span, batch=batch, rate=learning_rate, decay=weight_decay)
    tell = partial(show, on=errors if as_json else console)
    images = open_data(data, Where(data_root, image_size, download))
    torch.set_num_threads(threads or _useful_threads(images, recipe))
    folder = output or Path("runs") / Path(data).name
    tell(_plan(images, recipe, model, regime, sparsity))
    settings = job.Settings(model, regime, sparsity, residual.value, seed, folder)
    outcome = job.run(settings, images, recipe, tell)
    (folder / "results.json").write_text(outcome.to_json() + "\n", encoding="utf-8")
    if as_json:
        print(outcome.to_json())  # noqa: T201  rich would wrap it
        return
    show(reloaded_table(outcome))
    show(outcome_table(outcome))
    show(f"Written to {folder}/: dense.ckpt, sparse.ckpt, slim.*, the other networks' .safetensors, and results.json.")


def _useful_threads(data: ImageData, recipe: Recipe) -> int:
    """Return how many threads do more than they cost.

    Where a step is short one does; else one for each core that is idle: threads that wait for a busy core make every
    step many times slower.
    """
    _, height, width = data.shape
    if recipe.batch * height * width < _SMALL:
        return 1
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, torch.get_num_threads() - busy)


def _plan(data: ImageData, recipe: Recipe, model: str, regime: str, sparsity: float) -> str:
    channels, height, width = data.shape
    return (
        f"{data.name}: {len(data.train):,} training, {len(data.valid):,} validation and {len(data.test):,} test images"
        f" of {channels} x {height} x {width}, {len(data.classes)} classes.\n"
        f"{model}, {plural(recipe.epochs, 'epoch')} of batches of {recipe.batch}; {regime} to {percent(sparsity)}"
        f" in epochs {recipe.era[0]} to {recipe.era[1]}; {plural(torch.get_num_threads(), 'thread')}."
    )
