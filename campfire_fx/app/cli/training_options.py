"""Options of `campfire-fx train` that depend on what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from campfire_fx.app.cli.run_config import use_config

StartFrom = Annotated[
    Path | None,
    typer.Option("--from", help="Start from a trained network: dense.ckpt of a run.", show_default="new weights"),
]
StartWeights = Annotated[
    str | None,
    typer.Option(
        help="Start from trained weights of the model: a file that holds a state_dict (.safetensors, .pt, .pth and"
        " others), or by name, as DEFAULT. A classifier for other classes is replaced.",
        show_default="new weights",
    ),
]
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Modules that stay as they are, by their paths, as layer1 or '*.bn1'; backbone: all but the classifier."
        " Repeatable.",
        show_default="none",
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help="Highest learning rate.", show_default="0.1, from trained weights 0.03"),
]
Era = Annotated[
    str | None,
    typer.Option(
        help="Pruning era START:END in epochs; 0:0 prunes all at once, before the first.",
        show_default="a fifth (from trained weights 0) to six tenths",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download the data set, and weights that have a name.")]
Augment = Annotated[
    str | None,
    typer.Option(
        help="shift: images in memory, moved a little and mirrored; crop: read as they are needed, a random cut of"
        " each, as for ImageNet; none: in memory.",
        show_default="shift",
    ),
]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        help="Where to follow the training, beside log.csv: tensorboard, wandb or mlflow. Repeatable.",
        show_default="none",
    ),
]
Distill = Annotated[
    float | None,
    typer.Option(
        metavar="WEIGHT",
        help="Distillation: sparse, and slim from scratch, imitate the dense network; its share of the loss, as 0.9.",
        show_default="no",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the final tables: no lines for epochs, no reports.")
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COST=VALUE",
        help="What the slim network may cost, for whole channels: macs=0.5, parameters=0.3 or latency=0.5 of the"
        " dense one's; gmacs, mparameters or latency_ms in numbers. Repeatable; the regime is then channel.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="Options in a YAML file, as the config.yaml of a run; options on the command line override them.",
        callback=use_config,
        is_eager=True,
        show_default=False,
    ),
]
