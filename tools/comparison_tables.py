"""What the runs of a comparison say together: means and intervals, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comparison_runs import DENSE, Run

from campfire_fx.app.train.tally import unpack
from campfire_fx.report.intervals import of_mean_difference, of_trainings


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds and half the width of its 95 % interval (Student's t); None where there is one seed."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f}" + ("" if self.half is None else f" ± {100 * self.half:.2f}")


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one sparsity, over the seeds that have finished.

    Attributes:
        label: its name, made of the method, the sparsity asked for and whether it is slim widths from scratch.
        seeds: which have finished.
        accuracy: on the test images, a share.
        less: its accuracy less that of the dense runs of the same seeds, in points, on the same images, and half of
            the 95 % interval: what other test images would have changed, the networks being as they are. None for
            dense, and where no dense run of a seed has finished.
        facts: other numbers, means over the seeds; None where there are none.
        under_attack: accuracy by epsilon.
        same_as: runs from scratch that are the dense ones, since no channel was removed.
    """

    label: str
    method: str
    sparsity: float
    scratch: bool
    seeds: tuple[int, ...]
    accuracy: Spread
    less: tuple[float, float] | None
    facts: dict[str, float | None]
    under_attack: dict[str, Spread]
    same_as: int


_FACTS = (
    "target", "true", "overall", "kernels", "window", "dead_filters", "parameters", "nonzero", "macs", "bytes",
    "latency_ms", "latency_ratio", "training_seconds", "step_ms", "step_ratio", "peak_bytes", "peak_ratio",
    "difference",
)  # fmt: skip
_RATIOS = {"latency_ratio": "latency_ms", "step_ratio": "step_ms", "peak_ratio": "peak_bytes"}  # to dense_...


def rows_of(finished: Sequence[tuple[Run, dict[str, Any]]]) -> list[Row]:
    """Gather finished runs by method and sparsity, in the order in which they are given."""
    dense = {run.seed: facts for run, facts in finished if run.method == DENSE}
    by_label: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run, facts in finished:
        by_label.setdefault(run.label, []).append((run, facts))
    return [_row(label, members, dense) for label, members in by_label.items()]


def _row(label: str, members: list[tuple[Run, dict[str, Any]]], dense: dict[int, dict[str, Any]]) -> Row:
    runs, found = [run for run, _ in members], [facts for _, facts in members]
    for run, facts in members:
        known = {ratio: name for ratio, name in _RATIOS.items() if name in facts}
        dense_itself = run.method == DENSE or facts["same_as"] is not None
        facts |= {r: 1.0 if dense_itself else facts[n] / facts[f"dense_{n}"] for r, n in known.items()}
    attacks = [facts["fgsm"] or {} for facts in found]
    epsilons = [epsilon for epsilon in attacks[0] if all(epsilon in attack for attack in attacks)]
    pairs = [(facts, dense[run.seed]) for run, facts in members if run.seed in dense and run.method != DENSE]
    return Row(
        label=label,
        method=runs[0].method,
        sparsity=runs[0].sparsity,
        scratch=runs[0].scratch,
        seeds=tuple(run.seed for run in runs),
        accuracy=spread([facts["accuracy"] for facts in found]),
        less=paired(pairs) if pairs else None,
        facts={name: _mean([facts.get(name) for facts in found]) for name in _FACTS},
        under_attack={epsilon: spread([attack[epsilon] for attack in attacks]) for epsilon in epsilons},
        same_as=sum(facts["same_as"] is not None for facts in found),
    )


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and its interval over seeds."""
    found = of_trainings(values)
    return Spread(values[0], None) if found is None else Spread(found.value, found.high - found.value)


def paired(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[float, float]:
    """Return the mean difference in accuracy of pairs of runs, in points, and half of its interval over images."""
    each = [unpack(this["right"]).double() - unpack(other["right"]).double() for this, other in pairs]
    found = of_mean_difference(torch.stack(each).mean(0).tolist())
    return 100 * found.value, 100 * (found.high - found.value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def to_csv(rows: Sequence[Row]) -> str:
    """Return all numbers as CSV text; shares in [0, 1], differences in points."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    epsilons = list(dict.fromkeys(epsilon for row in rows for epsilon in row.under_attack))
    attacked = [f"fgsm_{epsilon}" for epsilon in epsilons]
    writer.writerow(["run", "seeds", "accuracy", "accuracy_half", "less", "less_half", *_FACTS, *attacked, "same_as"])
    for row in rows:
        less = row.less or (None, None)
        shares = [row.under_attack[e].mean if e in row.under_attack else None for e in epsilons]
        numbers = [row.accuracy.mean, row.accuracy.half, *less, *row.facts.values(), *shares]
        cells = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow([row.label, " ".join(map(str, row.seeds)), *cells, row.same_as])
    return text.getvalue()


_COLUMNS = (
    ("true sparsity %", "true", 100, ".1f"),
    ("parameters", "parameters", 1, ",.0f"),
    ("non-zero", "nonzero", 1, ",.0f"),
    ("MMACs", "macs", 1e-6, ".2f"),
    ("kB", "bytes", 1e-3, ".0f"),
    ("time / dense", "latency_ratio", 1, ".2f"),
    ("training, minutes", "training_seconds", 1 / 60, ".1f"),
    ("step / dense", "step_ratio", 1, ".2f"),
    ("peak / dense", "peak_ratio", 1, ".2f"),
)  # title, fact, scale, form


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the numbers that matter as a Markdown table."""
    epsilons = list(dict.fromkeys(epsilon for row in rows for epsilon in row.under_attack))
    columns = [column for column in _COLUMNS if any(row.facts[column[1]] is not None for row in rows)]
    titles = ["run", "seeds", "accuracy %", "vs. dense, points"]
    titles += [f"FGSM {epsilon} %" for epsilon in epsilons] + [title for title, *_ in columns]
    lines = [f"| {' | '.join(titles)} |", f"|{'|'.join(['---', *['---:'] * (len(titles) - 1)])}|"]
    for row in rows:
        cells = [row.label + (" (= dense)" if row.same_as == len(row.seeds) else "")]
        cells += [", ".join(map(str, row.seeds)), str(row.accuracy)]
        cells += ["" if row.less is None else f"{row.less[0]:+.2f} ± {row.less[1]:.2f}"]
        cells += [str(row.under_attack[epsilon]) if epsilon in row.under_attack else "" for epsilon in epsilons]
        cells += [_shown(row.facts[fact], scale, form) for _, fact, scale, form in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(value: float | None, scale: float, form: str) -> str:
    return "" if value is None else format(value * scale, form)
