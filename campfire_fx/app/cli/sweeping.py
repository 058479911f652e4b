"""`campfire-fx sweep`: many trainings by one command."""

from __future__ import annotations

import typer

from campfire_fx.app.cli import sweeping_options as options
from campfire_fx.app.cli.options import AsJson
from campfire_fx.app.cli.sweeping_run import sweep


def sweep_command(
    ctx: typer.Context,
    data: options.Data = "digits",
    model: options.Model = None,
    epochs: options.Epochs = None,
    regime: options.Regime = None,
    sparsity: options.Sparsity = None,
    era_start: options.EraStart = None,
    era_length: options.EraLength = None,
    skip_late: options.SkipLate = False,
    learning_rate: options.LearningRates = None,
    drops: options.Drops = None,
    seed: options.Seeds = "0",
    random: options.RandomSettings = None,
    paper: options.Paper = None,
    from_scratch: options.FromScratch = False,
    jobs: options.Jobs = None,
    threads: options.Threads = 1,
    launcher: options.Launch = "local",
    launcher_option: options.LaunchOptions = None,
    list_only: options.ListOnly = False,
    yes: options.Yes = False,
    output: options.Output = None,
    as_json: AsJson = False,
) -> None:
    """Train a grid of settings, and compare them in tables and one HTML page.

    Each run is one of `campfire-fx train`, whose other options may be given too, as --batch 64 or --precision
    bfloat16: the same recipe, checkpoints and results, in OUTPUT/runs/NAME. A dense training for every seed is the
    reference. What is stopped, or killed, goes on with the same command; a grid may grow.

    **Examples**

        campfire-fx sweep --regime ck,combined,window --sparsity 0.6,0.8 --seed 0,1,2
        campfire-fx sweep --data cifar10 --model resnet20 --epochs 14 --era-start 2,4,6 --era-length 2,4,8
            --sparsity 0.4,0.6,0.7,0.8 --regime ck,combined,window
        campfire-fx sweep --data cifar10 --model resnet20 --paper tables-2-3 --epochs 20 --seed 0,1,2
        campfire-fx sweep --data path/to/images --learning-rate 0.05,0.1 --drops 6,9 --drops none --random 6 --list
    """
    sweep(locals(), ctx.args)
