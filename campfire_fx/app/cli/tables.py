"""The tables at the end of the training command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from campfire_fx.app.train.outcome import LATENCY_BATCH, Outcome
from campfire_fx.app.train.presets import Preset
from campfire_fx.report.numbers import TIME_NOTE, count, percent, size, time_share
from campfire_fx.report.sparsity import COSTS
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.sparsity.regimes import nothing_pruned

_NETWORKS = (
    Column("network", right=False),
    Column("accuracy"),
    Column("top-5", 2),
    Column("params"),
    Column("non-zero", 1),
    Column("MACs"),
    Column("latency"),
    Column("latency /\nfirst", 2),
    Column("file"),
)
_FILES = (Column("file", right=False), Column("bytes", 1), Column("difference"), Column("same predictions"))

_RECIPE = (
    Column("setting", right=False),
    Column("value", right=False),
    Column("origin", right=False),
    Column("where, or why", right=False, wraps=True),
)


def outcome_table(outcome: Outcome) -> RenderableType:
    """Return dense, sparse, slim and slim-from-scratch, a row each, and what the numbers mean."""
    five = any(row.top5 is not None for row in outcome.rows)
    columns = [column for column in _NETWORKS if five or column.header != "top-5"]
    columns = [replace(one, header=one.header.replace("first", outcome.rows[0].name)) for one in columns]
    rows = [
        (
            row.name,
            percent(row.accuracy, 2),
            *(("" if row.top5 is None else percent(row.top5, 2),) if five else ()),
            f"{row.parameters:,}",
            f"{row.nonzero:,}",
            count(row.macs),
            f"{row.latency_ms:.2f} ms",
            time_share(row.latency_ratio) if row.latency_ratio else "",
            size(row.bytes),
        )
        for row in outcome.rows
    ]
    return Group(FittedTable("One recipe, one seed", columns, rows), Text("\n".join(_notes(outcome))))


def _notes(outcome: Outcome) -> Iterator[str]:
    images, names = outcome.rows[0].images, [row.name for row in outcome.rows]
    use = "which were also used for validation" if outcome.watched else "used only for this table"
    yield (
        f"Accuracy on {images:,} test images, {use}; one image is {percent(1 / images, 2)}."
        f" MACs: one image. Latency: a batch of {LATENCY_BATCH}. File: .safetensors and its code. {TIME_NOTE}"
    )
    if outcome.target is not None and outcome.sparsity is not None and outcome.difference is not None:
        limited = [(cost, cost.final) for cost in outcome.costs if cost.final is not None]
        told = [f"{percent(c.now)} of the dense {COSTS[c.name]} (at most {percent(final)})" for c, final in limited]
        if told:
            yield f"Counted by the channels that are left, slim has {', and '.join(told)}."
        yield (
            f"Sparse: {percent(outcome.sparsity)} of the weights of its masked layers are zero (asked: "
            f"{percent(outcome.target)}). Slim: outputs within {outcome.difference:.1e} of the sparse ones."
        )
    if outcome.sparsity == 0 and outcome.settings.get("sparsity"):
        yield f"Nothing to shrink: {nothing_pruned(outcome.settings['regime'])} Settings: --set NAME=VALUE."
    if "start" in outcome.settings:
        scratch = ", slim from scratch from new weights" if "slim from scratch" in names else ""
        trained = " and ".join(name for name in ("dense", "sparse") if name in names)
        yield f"{trained.capitalize()} started from {outcome.settings['start']}{scratch}."
    yield f"Done in {outcome.seconds:.0f} s."


def reloaded_table(outcome: Outcome) -> RenderableType:
    """Return the exported files, each loaded again and compared on the test images."""
    rows = [
        (file.file, f"{file.bytes:,}", f"{file.difference:.1e}", f"{file.same:,} of {file.images:,}")
        for file in outcome.reloaded
    ]
    return FittedTable("Exported, loaded again, and compared with the slim model on the test images", _FILES, rows)


def recipe_table(name: str, recipe: Preset) -> RenderableType:
    """Return the values of a named recipe, a row each, with where they come from."""
    rows = [(option, _plain(entry.value), entry.origin, entry.why) for option, entry in sorted(recipe.values.items())]
    notes = (
        "Stated: in the paper. Chosen: one of several values in the paper. Inferred: not in the paper."
        " Any option overrides its value."
    )
    return Group(FittedTable(f"{name}: {recipe.about}", _RECIPE, rows), Text(notes))


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
