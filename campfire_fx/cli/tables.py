"""The tables at the end of the training command."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from campfire_fx.report.numbers import count, percent, size
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.train.outcome import LATENCY_BATCH, Outcome

_NETWORKS = (
    Column("network", right=False),
    Column("accuracy"),
    Column("params"),
    Column("non-zero", 1),
    Column("MACs"),
    Column("latency"),
    Column("file"),
)
_FILES = (Column("file", right=False), Column("bytes", 1), Column("difference"), Column("same answers"))


def outcome_table(outcome: Outcome) -> RenderableType:
    """Return dense, sparse, slim and slim-from-scratch, a row each, and what the numbers mean."""
    rows = [
        (
            row.name,
            percent(row.accuracy, 2),
            f"{row.parameters:,}",
            f"{row.nonzero:,}",
            count(row.macs),
            f"{row.latency_ms:.2f} ms",
            size(row.bytes),
        )
        for row in outcome.rows
    ]
    images = outcome.rows[0].images
    notes = (
        f"Accuracy on {images:,} test images, used for this table alone; one is {percent(1 / images, 2)}."
        f" MACs: one image. Latency: a batch of {LATENCY_BATCH}. File: .safetensors and its code.\n"
        f"Sparse: {percent(outcome.sparsity)} of the weights of its masked layers are zero (asked: "
        f"{percent(outcome.target)}). Slim: outputs within {outcome.difference:.1e} of the sparse ones.\n"
        f"Done in {outcome.seconds:.0f} s."
    )
    return Group(FittedTable("One recipe, one seed", _NETWORKS, rows), Text(notes))


def reloaded_table(outcome: Outcome) -> RenderableType:
    """Return the exported files, each loaded again and compared on the test images."""
    rows = [
        (file.file, f"{file.bytes:,}", f"{file.difference:.1e}", f"{file.same:,} of {file.images:,}")
        for file in outcome.reloaded
    ]
    return FittedTable("Exported, loaded again, and compared with the slim model on the test images", _FILES, rows)
