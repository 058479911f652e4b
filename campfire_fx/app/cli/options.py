"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Residual = Literal["union", "gate"]
"""How `shrink` treats residual streams."""

Example = Annotated[
    list[str] | None,
    typer.Option(help="Shape of an input, as 1x3x224x224; once for each.", show_default="guessed"),
]
ModelArguments = Annotated[list[str] | None, typer.Option(help="Argument of the model, NAME=VALUE; may be repeated.")]
OwnModel = Annotated[
    str | None, typer.Option(help="package.module:factory, for a checkpoint whose model is your own code.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Columns = Annotated[bool, typer.Option("--columns", help="Gather live GEMM columns where that is faster here.")]
Prove = Annotated[
    Path | None, typer.Option("--proof", help="File for a proof (.json) that `campfire-fx verify` checks again.")
]
Groups = Annotated[
    bool, typer.Option("--groups", help="Convolve in groups where filters fall into sets and that is faster here.")
]
FoldNorms = Annotated[
    bool, typer.Option("--fold-norms", help="Fold BatchNorms into the layers before them; for deployment.")
]
Compensate = Annotated[
    Literal["auto", "always", "never"],
    typer.Option(help="Take constant channels out of LayerNorm and GroupNorm: auto, where that pays in time."),
]
