"""`campfire-fx train`: the main job."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from campfire_fx.app.cli.tables import outcome_table, recipe_table, reloaded_table
from campfire_fx.app.cli.terminal import console, epochs_listed, era_span, errors, show
from campfire_fx.app.cli.wishes import SETTINGS, wishes
from campfire_fx.app.train import job, keeper
from campfire_fx.app.train.data import NAMES, ImageData, Where, open_data
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.pictures import Skips
from campfire_fx.app.train.presets import Preset, preset
from campfire_fx.app.train.ranks import join_ranks
from campfire_fx.app.train.recipe import Recipe, recipe_for
from campfire_fx.app.train.stopping import stopping
from campfire_fx.export.formats import format_named
from campfire_fx.report.numbers import percent, plural

_SMALL = 64 * 32 * 32  # pixels in a batch
_MODEL, _REGIME, _SPARSITY, _NETWORKS = "resnet8", "combined", 0.7, "all"


class Residual(str, Enum):
    """How `shrink` treats residual streams."""

    union = "union"
    gate = "gate"


class Networks(str, Enum):
    """Which networks are trained."""

    all = "all"
    sparse = "sparse"
    dense = "dense"


class Resume(str, Enum):
    """What becomes of an earlier run in the output folder."""

    auto = "auto"
    never = "never"


class Device(str, Enum):
    """Where training computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def _of_recipe(default: str) -> str:
    return f"{default}, or the recipe's"


def train_command(
    data: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(NAMES)}; or a folder of images: train/ and test/ or val/ with a folder per class,"
            " as ImageNet; val/val_annotations.txt, as Tiny-ImageNet; or just a folder per class."
        ),
    ] = "digits",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="The paper's: resnet50-imagenet, resnet50-v1.5-imagenet or resnet50-tiny-imagenet. Every value gives"
            " way to its option.",
            show_default="what suits small data",
        ),
    ] = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe's values and their sources, and stop.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="resnet8, resnet14, resnet20, resnet50-v1, a torchvision name, or package.module:factory.",
            show_default=_of_recipe(_MODEL),
        ),
    ] = None,
    networks: Annotated[
        Networks | None,
        typer.Option(
            help="all: dense, sparse, and slim from scratch; sparse: that and its slim form; or dense.",
            show_default="all, or the recipe's",
        ),
    ] = None,
    regime: Annotated[
        str | None,
        typer.Option(
            help="combined, window, ck, inter-epoch, filter, fine-fc, block-fc, unstructured, N:M as 2:4; swat-u (erk,"
            " m, structured); rigl; or admm-filter (channel, column, kernel, unstructured, column-filter).",
            show_default=_of_recipe(_REGIME),
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            help="Share of the weights of each layer to remove, in [0, 1).", show_default=_of_recipe(str(_SPARSITY))
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="PATTERN=SPARSITY for layers whose path matches, as 'layer1.*=0.4'; 0 leaves them dense. Repeatable.",
            show_default=False,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help=f"Another argument of `sparsify`, as prune_stem=true or dead_norm=keep: {', '.join(SETTINGS)}."
            " Repeatable.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs for each network.", show_default="the data set's")] = None,
    era: Annotated[
        str | None, typer.Option(help="Pruning era START:END in epochs.", show_default="a fifth to six tenths")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images per step, over all processes.", show_default="the data set's")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, adam or adamw.", show_default="sgd")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="0.1")] = None,
    drops: Annotated[
        str | None,
        typer.Option(
            help="Epochs from which on the learning rate is a tenth of what it was, as 30,60.",
            show_default="none: half a cosine",
        ),
    ] = None,
    warm_up: Annotated[
        float | None, typer.Option(help="Share of all steps in which the rate rises.", show_default="0.15")
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="Momentum of SGD; beta1 of the others.", show_default="0.9")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32 or bfloat16: what layers compute in while training.", show_default="float32"),
    ] = None,
    nesterov: Annotated[
        bool | None, typer.Option("--nesterov/--no-nesterov", help="Nesterov momentum.", show_default="yes")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.", show_default="the data set's")] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="shift: images in memory, moved a little and mirrored; crop: read as they are needed, a random cut of"
            " each, as for ImageNet; none: in memory.",
            show_default="shift",
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images that the network is given.", min=8)] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            help="crop: shorter side before a test image's centre is cut out.", show_default="8/7 of the side"
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of the training images held out for validation; 0: the test images are both."),
    ] = None,
    residual: Annotated[Residual, typer.Option(help="How residual streams are shrunk.")] = Residual.union,
    formats: Annotated[
        str | None,
        typer.Option(help="Files to export, as onnx,pt2.", show_default="safetensors, pt2, and onnx if installed"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, machine and threads: same result.", min=0)] = 0,
    resume: Annotated[
        Resume | None,
        typer.Option(
            help="auto: go on with the run in the output folder, if there is one; never: start anew.",
            show_default="start anew, unless a run there was not finished",
        ),
    ] = None,
    checkpoint_every: Annotated[str, typer.Option(help="Steps, as 500, or a time, as 90s, 10m, 2h.")] = "5m",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at an image that cannot be read, instead of skipping it.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's files, too.")] = False,
    data_root: Annotated[Path, typer.Option(help="Where data sets known by name lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set from its makers.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for what is written.", show_default="runs/DATA")] = None,
    device: Annotated[Device, typer.Option(help="Where to train; auto: cuda where there is one.")] = Device.auto,
    workers: Annotated[
        int | None, typer.Option(help="crop: processes that read images.", min=0, show_default="one per core")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads; a resumed run keeps its own.",
            min=1,
            show_default="1 for small images, else one per idle core",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else.")] = False,
) -> None:
    """Train dense and sparse, shrink, verify, export, reload, and compare in one table.

    Trains a small ResNet dense, and sparse with the same start and budget; shrinks the sparse one and proves that the
    output is the same; exports the slim network, loads each file back and compares; trains the slim widths from
    scratch, too. Nothing is fetched unless you say --download.

    A run that was killed goes on with --resume auto, and ends with the weights that it would have had. SIGTERM and
    Ctrl-C save, and end with exit code 143 and 130. Of several processes that torchrun starts, the first one writes.

    **Examples**

        campfire-fx train
        campfire-fx train --data fashion-mnist --download --epochs 8
        campfire-fx train --data path/to/images --model resnet20 --sparsity 0.6
        torchrun --nproc-per-node 4 -m campfire_fx train --data path/to/imagenet
            --recipe resnet50-imagenet --resume auto
    """
    named = preset(recipe) if recipe else None
    if show_recipe:
        _show_recipe(recipe, named)
        return
    values = named.plain() if named else {}
    plan = recipe_for(
        data,
        named=values if named else None,
        epochs=epochs,
        era=era_span(era),
        batch=batch,
        optimizer=optimizer,
        rate=learning_rate,
        drops=epochs_listed(drops),
        warm_up=warm_up,
        momentum=momentum,
        nesterov=nesterov,
        precision=precision,
        decay=weight_decay,
        augment=augment,
        image_size=image_size,
        resize=resize,
        held_out=held_out,
    )
    where = Where(data_root, plan.image_size, download, plan.augment == "crop", plan.resize, plan.held_out, strict)
    if named:
        where = replace(where, classes=named.classes, recipe=recipe or "")
    settings = job.Settings(
        model or values.get("model", _MODEL),
        regime or values.get("regime", _REGIME),
        values.get("sparsity", _SPARSITY) if sparsity is None else sparsity,
        residual.value,
        seed,
        output or Path("runs") / Path(data).name,
        networks.value if networks else values.get("networks", _NETWORKS),
        tuple(dict.fromkeys(map(format_named, formats.split(",")))) if formats else None,
        resume.value if resume else None,
        keeper.every(checkpoint_every),
        tensorboard,
        data_root,
        {name: values[name] for name in SETTINGS if name in values} | wishes(setting or (), override or ()),
    )
    asked = {"device": device.value, "workers": workers, "threads": threads, "as_json": as_json}
    _train(data, where, plan, settings, **asked)


def _show_recipe(name: str | None, named: Preset | None) -> None:
    if name is None or named is None:
        raise typer.BadParameter("--show-recipe shows a recipe that is named. Give --recipe, too.")
    show(recipe_table(name, named))


def _train(data: str, where: Where, plan: Recipe, settings: job.Settings, **asked: Any) -> None:
    tell = partial(show, on=errors if asked["as_json"] else console)
    with join_ranks(asked["device"]) as ranks, stopping() as stop:
        if not ranks.first:
            logging.getLogger("campfire_fx").setLevel(logging.ERROR)
        with ranks.first_goes_first():  # a download or a cache is made once
            images = open_data(data, where)
        torch.set_num_threads(asked["threads"] or _useful_threads(images, plan))
        workers = _useful_workers(ranks.count) if asked["workers"] is None else asked["workers"]
        if ranks.first:
            tell(_plan(images, plan, settings, ranks.count))
        host = Host(ranks, workers if where.streamed else 0, stop=stop)
        outcome = job.run(settings, images, plan, show=tell, host=host)
        if not ranks.first:
            return
    if outcome.skipped:
        tell(f"{Skips(names=list(outcome.skipped)).told()} All are listed in {settings.folder / 'skipped.txt'}.")
    if asked["as_json"]:
        print(outcome.to_json())  # noqa: T201  rich would wrap it
        return
    if outcome.reloaded:
        show(reloaded_table(outcome))
    show(outcome_table(outcome))
    names = ", ".join(f"{name}.ckpt" for name in ("dense", "sparse") if settings.networks in ("all", name))
    rest = ", slim.*, the other networks' .safetensors" if outcome.reloaded else ", dense.safetensors"
    show(f"Written to {settings.folder}/: {names}{rest}, log.csv, and results.json.")


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


def _useful_workers(processes: int) -> int:
    return max(1, (os.cpu_count() or 1) // processes)


def _plan(data: ImageData, recipe: Recipe, settings: job.Settings, processes: int) -> str:
    channels, height, width = data.shape
    held = "the test images for validation too" if data.valid is data.test else f"{len(data.valid):,} validation"
    shared = f" shared by {processes} processes" if processes > 1 else ""
    return (
        f"{data.name}: {len(data.train):,} training, {held} and {len(data.test):,} test images"
        f" of {channels} x {height} x {width}, {len(data.classes)} classes.\n"
        f"{settings.model}, {plural(recipe.epochs, 'epoch')} of batches of {recipe.batch}{shared}; {settings.regime} to"
        f" {percent(settings.sparsity)} in epochs {recipe.era[0]} to {recipe.era[1]};"
        f" {plural(torch.get_num_threads(), 'thread')}."
    )
