"""The tables at the end of the training command."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from campfire_fx.train.outcome import LATENCY_BATCH, Outcome


def outcome_table(outcome: Outcome) -> RenderableType:
    """Return dense, sparse, slim and slim-from-scratch, a row each."""
    table = Table(title="One recipe, one seed", title_justify="left")
    table.add_column("network", no_wrap=True)
    for heading in ("accuracy", "parameters", "non-zero", "MACs", f"ms / {LATENCY_BATCH}", "file"):
        table.add_column(heading, justify="right")
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
    table = Table(title="Exported, loaded again, compared with the slim model in memory", title_justify="left")
    table.add_column("file")
    for heading in ("bytes", "largest relative difference", "same answers"):
        table.add_column(heading, justify="right")
    for file in outcome.reloaded:
        table.add_row(file.file, f"{file.bytes:,}", f"{file.difference:.1e}", f"{file.same:,} of {file.images:,}")
    return table
