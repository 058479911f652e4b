"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from campfire_fx.base import choices

Example = Annotated[
    list[str] | None,
    typer.Option(help="Shape of an input, as 1x3x224x224. Repeat it for several inputs.", show_default="guessed"),
]
ModelArguments = Annotated[list[str] | None, typer.Option(help="Argument of the model, NAME=VALUE. Repeatable.")]
OwnModel = Annotated[
    str | None, typer.Option(help="package.module:factory, for a checkpoint whose model is your own code.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")]
Columns = Annotated[
    bool, typer.Option("--columns", help="Skip zero columns of the matrix product where that is faster here.")
]
Prove = Annotated[
    Path | None, typer.Option("--proof", help="File for a proof (.json) that `campfire-fx verify` checks again.")
]
Groups = Annotated[
    bool, typer.Option("--groups", help="Use grouped convolutions where filters share inputs and that is faster here.")
]
FoldNorms = Annotated[
    bool, typer.Option("--fold-norms", help="Fold BatchNorms into the layers before them, for deployment.")
]
Compensate = Annotated[
    choices.Compensate,
    typer.Option(help="Remove constant channels from LayerNorm and GroupNorm. auto: where that saves time."),
]
Streams = Annotated[
    choices.Residual,
    typer.Option(
        help="Residual sums. union: keep a channel that any branch writes; gate: each branch selects its own."
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COST=VALUE",
        help="First remove whole channels at once, to this share of the cost: macs=0.7, parameters=0.5 or latency=0.5."
        " Repeatable. The output changes, and accuracy needs fine-tuning.",
        show_default=False,
    ),
]
ChannelSetting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="How --target is met: score=l2, at_least=0.3, scope='each set' and more of docs/channels.md. Repeatable.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the code that FILE names: for a whole pickled model of someone you trust.")
]
