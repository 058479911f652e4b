"""The tables at the end of the training command."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from campfire_fx.train.outcome import LATENCY_BATCH, Outcome


def outcome_table(outcome: Outcome) -> RenderableType:
    """Return dense, sparse, slim and slim-from-scratch, a row each."""
    numbers = ("accuracy", "parameters", "non-zero", "MACs", f"ms / {LATENCY_BATCH}", "file")
    table = _table("One recipe, one seed", "network", numbers)
    for row in outcome.rows:
        table.add_row(
            row.name,
            f"{row.accuracy:.2%}",
            f"{row.parameters:,}",
            f"{row.nonzero:,}",
            f"{row.macs / 1e6:.2f} M",
            f"{row.latency_ms:.2f}",
            f"{row.bytes / 1024:.0f} KiB",
        )
    images = outcome.rows[0].images
    notes = (
        f"Accuracy on {images:,} test images (one is {1 / images:.2%}), looked at once. MACs for one image. Files: "
        f".safetensors.\nSparse: {outcome.sparsity:.1%} of the weights of its masked layers are zero (target "
        f"{outcome.target:.1%}). Slim: outputs within {outcome.difference:.1e} of the sparse ones.\n"
        f"Done in {outcome.seconds:.0f} s."
    )
    return Group(table, notes)


def reloaded_table(outcome: Outcome) -> Table:
    """Return the exported files, each loaded again and compared on the test images."""
    title = "Exported, loaded again, and compared with the slim model in memory on the test images"
    table = _table(title, "file", ("bytes", "largest relative difference", "same answers"))
    for file in outcome.reloaded:
        table.add_row(file.file, f"{file.bytes:,}", f"{file.difference:.1e}", f"{file.same:,} of {file.images:,}")
    return table


def _table(title: str, name: str, numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
