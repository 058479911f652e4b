"""`campfire-fx train`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from campfire_fx.app.cli.assignments import SETTINGS
from campfire_fx.app.cli.options import AsJson, ModelArguments
from campfire_fx.app.cli.tables import recipe_table
from campfire_fx.app.cli.terminal import show
from campfire_fx.app.cli.training_options import (
    Augment,
    Config,
    Distill,
    Download,
    Era,
    Freeze,
    LearningRate,
    Quiet,
    StartFrom,
    StartWeights,
    Target,
    Trackers,
)
from campfire_fx.app.cli.training_plan import MODEL, REGIME, SPARSITY, planned
from campfire_fx.app.cli.training_run import train
from campfire_fx.app.train.data import NAMES
from campfire_fx.app.train.presets import preset
from campfire_fx.base.choices import Residual


def _of_recipe(default: str) -> str:
    return f"{default}, or the recipe's"


def train_command(
    config: Config = None,
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
            help="The paper's: resnet50-imagenet, resnet50-v1.5-imagenet or resnet50-tiny-imagenet. An option"
            " overrides its value.",
            show_default="what suits small data",
        ),
    ] = None,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe's values and their sources, and stop.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="resnet8, resnet14, resnet20, resnet50-v1, a torchvision name, timm:NAME, hf:FOLDER, or"
            " package.module:factory.",
            show_default=_of_recipe(MODEL),
        ),
    ] = None,
    option: ModelArguments = None,
    start_from: StartFrom = None,
    weights: StartWeights = None,
    freeze: Freeze = None,
    networks: Annotated[
        Literal["all", "no-dense", "sparse", "dense"] | None,
        typer.Option(
            help="all: dense, sparse, and slim from scratch; no-dense: all but dense; sparse: only sparse and its slim"
            " form; dense: only dense.",
            show_default="all, or the recipe's",
        ),
    ] = None,
    regime: Annotated[
        str | None,
        typer.Option(
            help="combined, window, ck, inter-epoch, filter, fine-fc, block-fc, unstructured, N:M as 2:4; channel or"
            " channel-combined; grouped; swat-u (erk, m, structured); rigl; set; or admm-filter (channel, column,"
            " kernel, unstructured, column-filter).",
            show_default=_of_recipe(REGIME),
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            help="Share of the weights of each layer to remove, in [0, 1).", show_default=_of_recipe(str(SPARSITY))
        ),
    ] = None,
    target: Target = None,
    reconfigure: Annotated[
        bool, typer.Option("--reconfigure", help="Remove dead channels between epochs, so that training gets cheaper.")
    ] = False,
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
    era: Era = None,
    batch: Annotated[
        int | None, typer.Option(help="Images per step, over all processes.", show_default="the data set's")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, adam or adamw.", show_default="sgd")] = None,
    learning_rate: LearningRate = None,
    drops: Annotated[
        str | None,
        typer.Option(
            help="Epochs at which the learning rate is divided by ten, as 30,60.",
            show_default="none: half a cosine",
        ),
    ] = None,
    warm_up: Annotated[
        float | None, typer.Option(help="Share of all steps in which the learning rate rises.", show_default="0.15")
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
    augment: Augment = None,
    distill: Distill = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images that the network is given.", min=8)] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            help="With --augment crop: shorter side of a test image before its centre is cut out.",
            show_default="8/7 of the side",
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of the training images held out for validation; 0: validate on the test images."),
    ] = None,
    residual: Annotated[Residual, typer.Option(help="How residual sums are shrunk; see campfire-fx shrink.")] = "union",
    formats: Annotated[
        str | None,
        typer.Option(help="Files to export, as onnx,pt2.", show_default="safetensors, pt2, and onnx if installed"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, machine and threads: same result.", min=0)] = 0,
    resume: Annotated[
        Literal["auto", "never"] | None,
        typer.Option(
            help="auto: go on with the run in the output folder, if there is one; never: start over.",
            show_default="start over, unless there is an unfinished run",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that the output folder holds.")
    ] = False,
    checkpoint_every: Annotated[str, typer.Option(help="How often: steps, as 500, or a time, as 90s, 10m, 2h.")] = "5m",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at an image that cannot be read, instead of skipping it.")
    ] = False,
    tracker: Trackers = None,
    data_root: Annotated[Path, typer.Option(help="Folder of the data sets that have a name.")] = Path("data"),
    download: Download = False,
    output: Annotated[Path | None, typer.Option(help="Folder for what is written.", show_default="runs/DATA")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train; auto: cuda where there is one.")
    ] = "auto",
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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train dense and sparse, shrink, verify, export, reload, and compare in one table.

    Trains a small ResNet dense, and sparse with the same start and budget; shrinks the sparse one and proves that the
    output is the same; exports the slim network, loads each file back and compares; trains the slim widths from
    scratch, too. Nothing is downloaded without --download.

    A run that was killed goes on with --resume auto, and ends with the weights that it would have had. SIGTERM and
    Ctrl-C save, and end with exit code 143 and 130. Of several processes that torchrun starts, the first one writes.

    **Examples**

        campfire-fx train
        campfire-fx train --data fashion-mnist --download --epochs 8
        campfire-fx train --config runs/digits/config.yaml --seed 1 --output runs/digits-1
        campfire-fx train --data path/to/images --model resnet20 --sparsity 0.6
        campfire-fx train --data path/to/images --model resnet50 --weights DEFAULT --download
        campfire-fx train --from runs/digits/dense.ckpt --output runs/finetuned
        campfire-fx train --data path/to/images --model resnet50 --weights mine.pth --freeze conv1 --freeze layer1
        torchrun --nproc-per-node 4 -m campfire_fx train --data path/to/imagenet
            --recipe resnet50-imagenet --resume auto
    """
    if show_recipe:
        _show_recipe(recipe)
        return
    train(planned(locals()), as_json=as_json, quiet=quiet)


def _show_recipe(name: str | None) -> None:
    if name is None:
        raise typer.BadParameter("--show-recipe shows a recipe that is named. Give --recipe, too.")
    show(recipe_table(name, preset(name)))
