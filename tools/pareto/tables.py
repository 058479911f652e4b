"""What the runs of a front say together: means over seeds and paired intervals, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comparison_tables import Spread, paired, spread

from pareto.plan import DENSE, UNIFORM, Run

Finished = Sequence[tuple[Run, dict[str, Any]]]
Less = tuple[float, float] | None

# Name of a number -> how it is made of the facts of a run. Those in _RATIOS are shares of the dense network's.
_NUMBERS: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "valid": lambda facts: facts["valid"],
    "epochs": lambda facts: facts["epochs"],
    "macs": lambda facts: facts["macs"],
    "macs_ratio": lambda facts: facts["macs"] / facts["dense_macs"],
    "parameters": lambda facts: facts["parameters"],
    "parameters_ratio": lambda facts: facts["parameters"] / facts["dense_parameters"],
    "nonzero": lambda facts: facts["nonzero"],
    "latency_1_ms": lambda facts: facts["latency_1_ms"],
    "latency_1_ratio": lambda facts: facts["latency_1_ms"] / facts["dense_latency_1_ms"],
    "latency_64_ms": lambda facts: facts["latency_64_ms"],
    "latency_64_ratio": lambda facts: facts["latency_64_ms"] / facts["dense_latency_64_ms"],
    "training_macs": lambda facts: facts["training_macs"],
    "training_macs_ratio": lambda facts: facts["training_macs"] / facts["dense_training_macs"],
    "cpu_seconds": lambda facts: facts["cpu_seconds"],
    "seconds": lambda facts: facts["seconds"],
    "bytes": lambda facts: facts["bytes"],
    "difference": lambda facts: facts.get("difference"),
}
_TIMES = ("latency_1_ratio", "latency_64_ratio")


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one target, over the seeds that have finished.

    Attributes:
        run: of the first seed.
        seeds: which have finished.
        accuracy: on the test images, a share.
        less_dense: accuracy less that of the dense runs of the same seeds, in points, on the same images, and half of
            the 95 % interval over images. None where there is none.
        less_uniform: the same to uniform widths of the same target.
        numbers: means over the seeds.
    """

    run: Run
    seeds: tuple[int, ...]
    accuracy: Spread
    less_dense: Less
    less_uniform: Less
    numbers: dict[str, float | None]


def rows_of(finished: Finished) -> list[Row]:
    """Gather finished runs by label, in the order in which they are given."""
    by_label: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run, facts in finished:
        by_label.setdefault(run.label, []).append((run, facts))
    return [_row(members, finished) for members in by_label.values()]


def _row(members: Finished, finished: Finished) -> Row:
    dense = {run.seed: facts for run, facts in finished if run.method == DENSE}
    uniform = {
        run.seed: facts
        for run, facts in finished
        if run.method == UNIFORM and not run.scratch and run.target == members[0][0].target
    }
    numbers = {name: _mean([make(facts) for _, facts in members]) for name, make in _NUMBERS.items()}
    if members[0][0].method == DENSE:
        numbers |= dict.fromkeys(_TIMES, 1.0)  # it is timed against itself
    return Row(
        run=members[0][0],
        seeds=tuple(run.seed for run, _ in members),
        accuracy=spread([facts["accuracy"] for _, facts in members]),
        less_dense=_less(members, dense),
        less_uniform=_less(members, uniform),
        numbers=numbers,
    )


def _less(members: Finished, others: dict[int, dict[str, Any]]) -> Less:
    pairs = [(facts, others[run.seed]) for run, facts in members if run.seed in others and facts != others[run.seed]]
    return paired(pairs) if pairs else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def to_csv(rows: Sequence[Row]) -> str:
    """Return all numbers as CSV text; accuracies in [0, 1], differences in points."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    differences = ["less_dense", "less_dense_half", "less_uniform", "less_uniform_half"]
    writer.writerow(
        [
            "run",
            "method",
            "target",
            "sparsity",
            "scratch",
            "seeds",
            "accuracy",
            "accuracy_half",
            *differences,
            *_NUMBERS,
        ]
    )
    for row in rows:
        run, less = row.run, [*(row.less_dense or (None, None)), *(row.less_uniform or (None, None))]
        numbers = [row.accuracy.mean, row.accuracy.half, *less, *row.numbers.values()]
        named = [run.label, run.method, _plain(run.target), _plain(run.sparsity), int(run.scratch)]
        writer.writerow([*named, " ".join(map(str, row.seeds)), *map(_plain, numbers)])
    return text.getvalue()


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


_COLUMNS = (
    ("MACs", "macs_ratio", ".3f"),
    ("parameters", "parameters_ratio", ".3f"),
    ("time, batch 1", "latency_1_ratio", ".2f"),
    ("time, batch 64", "latency_64_ratio", ".2f"),
    ("epochs", "epochs", ".0f"),
    ("training MACs", "training_macs_ratio", ".2f"),
    ("training, CPU s", "cpu_seconds", ",.0f"),
    ("training, clock s", "seconds", ",.0f"),
)  # title, number, form


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the numbers that matter as a Markdown table."""
    titles = ["run", "seeds", "accuracy %", "vs. dense, points", "vs. uniform, points"]
    titles += [title for title, *_ in _COLUMNS]
    lines = [f"| {' | '.join(titles)} |", f"|{'|'.join(['---', *['---:'] * (len(titles) - 1)])}|"]
    for row in rows:
        cells = [row.run.label, ", ".join(map(str, row.seeds)), str(row.accuracy)]
        cells += [
            "" if less is None else f"{less[0]:+.2f} ± {less[1]:.2f}" for less in (row.less_dense, row.less_uniform)
        ]
        numbers = [(row.numbers[name], form) for _, name, form in _COLUMNS]
        cells += ["" if number is None else format(number, form) for number, form in numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
