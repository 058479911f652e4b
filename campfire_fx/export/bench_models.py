"""Time models in memory in every runtime: those that a runtime opens from files only are exported first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from campfire_fx.cost.runtime_times import BenchRecord, RuntimeTime
from campfire_fx.export.agreement import first_line
from campfire_fx.export.api import export
from campfire_fx.export.bench import asked_runtimes, bench
from campfire_fx.export.runtimes import RUNTIMES, Source

_FILES = (".onnx", ".mnn")


def bench_models(
    models: Mapping[str, nn.Module],
    example_inputs: Tensor | tuple[Tensor, ...],
    *,
    runtimes: Sequence[str] | None = None,
    threads: int | None = 1,
    repeats: int = 20,
) -> BenchRecord:
    """Time one call of each model in each runtime that is installed, through files that last as long as the timing.

    Args:
        models: by name; the rows of the record have these names, those of one runtime beside each other.
        example_inputs: what they are called with, on the CPU.
        runtimes: as in `bench`.
        threads: as in `bench`.
        repeats: as in `bench`.

    Raises:
        BenchError: a number or a runtime is no such, or a runtime asked for by name is not installed.
    """
    asked = [RUNTIMES[name] for name in asked_runtimes(runtimes, installed=True)]
    suffixes = [suffix for suffix in _FILES if any(suffix in runtime.suffixes for runtime in asked)]
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, Source] = dict(models)
        names, failed = dict(zip(models, models, strict=True)), []
        for name, path, reason in _exported(models, example_inputs, suffixes, Path(folder)):
            if reason:
                opened = [runtime for runtime in asked if path.suffix in runtime.suffixes]
                failed += [RuntimeTime(name, runtime.told, reason=reason) for runtime in opened]
            else:
                sources[str(path)], names[str(path)] = path, name
        told = [runtime.name for runtime in asked]
        record = bench(sources, example_inputs, threads=threads, runtimes=told, repeats=repeats)
    rows = [replace(row, name=names[row.name]) for row in record.rows] + failed
    order = {runtime.told: place for place, runtime in enumerate(asked)}
    return replace(record, rows=tuple(sorted(rows, key=lambda row: (order[row.runtime], list(models).index(row.name)))))


def _exported(
    models: Mapping[str, nn.Module], example: Tensor | tuple[Tensor, ...], suffixes: Sequence[str], folder: Path
) -> Iterator[tuple[str, Path, str]]:
    """Write a file of each model in each format; yield the model's name, the file, and why it could not be written."""
    for number, (name, model) in enumerate(models.items()):
        for suffix in suffixes:
            path = folder / f"{number}{suffix}"
            try:
                export(model, path, example)
            except Exception as error:  # noqa: BLE001  exporters raise what they like; the others are still timed
                yield name, path, first_line(error)
            else:
                yield name, path, ""
