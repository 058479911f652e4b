"""What the runs of a sweep say together: a cell for each setting, with intervals; as CSV and JSON."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from campfire_fx.app.sweep.grid import Point
from campfire_fx.app.sweep.runs import Run
from campfire_fx.app.train.tally import unpack
from campfire_fx.app.train.training_log import LOG, read_log
from campfire_fx.report.intervals import Interval, of_mean_difference, of_paired_difference, of_share, of_trainings

SCRATCH = "slim from scratch"


@dataclass(frozen=True, slots=True)
class Finished:
    """One network of a run that has finished.

    Attributes:
        point: what is particular to the training.
        right, images: test images classified correctly, of how many.
        which: those that were right; None where that is not known.
        valid: accuracy on the validation images after each epoch.
        facts: what else is known of it: sparsity, sizes, time.
    """

    point: Point
    right: int
    images: int
    which: str | None
    valid: tuple[float, ...]
    facts: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """Share of the test images, in [0, 1]."""
        return self.right / self.images


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of a sweep, over the seeds that have finished.

    Attributes:
        point: of its first seed.
        scratch: whether these are the slim widths, trained from new weights.
        seeds: which have finished.
        accuracy: mean share of the test images, with an interval over them (of one seed, Wilson's), or over seeds.
        change: mean accuracy less that of the dense training of the same seed; None without one, and for dense itself.
        change_over_images: its interval for other test images, the networks being as they are.
        change_over_seeds: its interval for other seeds; None of a single one.
        facts: means over the seeds.
        valid: mean accuracy on the validation images after each epoch.
    """

    point: Point
    scratch: bool
    seeds: tuple[int, ...]
    accuracy: Interval
    change: float | None
    change_over_images: Interval | None
    change_over_seeds: Interval | None
    facts: Mapping[str, float]
    valid: tuple[float, ...]


def read_runs(runs: Sequence[Run]) -> tuple[list[Finished], list[Finished]]:
    """Return what has finished: the networks that were trained, and the slim widths from scratch.

    Raises:
        TrainError: a run is of a sweep with other options.
        ReportError: a file of a run cannot be read.
    """
    found, scratch = [], []
    for run in runs:
        results = run.results()
        if not results:
            continue
        rows = {row["name"]: row for row in results["rows"]}
        name = "dense" if run.point.regime is None else "sparse"
        found.append(_finished(run, results, rows, name, rows.get("slim", rows[name])))
        if SCRATCH in rows:
            scratch.append(_finished(run, results, rows, SCRATCH, rows[SCRATCH]))
    return found, scratch


def _finished(
    run: Run, results: Mapping[str, Any], rows: Mapping[str, Any], name: str, small: Mapping[str, Any]
) -> Finished:
    row = rows[name]
    log = read_log(run.folder / LOG) if (run.folder / LOG).exists() else {}
    valid = tuple(epoch.valid for epoch in log.get(name, ()) if epoch.valid is not None)
    sizes = {key: float(small[key]) for key in ("parameters", "nonzero", "macs", "latency_ms", "bytes")}
    facts = {"true_sparsity": results["sparsity"], **sizes, "seconds": results["seconds"]}
    known = {key: float(value) for key, value in facts.items() if value is not None}
    return Finished(run.point, row["right"], row["images"], row.get("which"), valid, known)


def cells_of(found: Sequence[Finished], dense: Sequence[Finished] = (), *, scratch: bool = False) -> list[Cell]:
    """Gather finished trainings by setting, in the order in which they are given.

    Args:
        found: trainings.
        dense: those that they are held against; those among `found` where none are given.
        scratch: whether they are slim widths from scratch.
    """
    references = {one.point: one for one in (dense or found) if one.point.regime is None}
    by_setting: dict[Point, list[Finished]] = {}
    for one in found:
        by_setting.setdefault(replace(one.point, seed=0), []).append(one)
    return [_cell(members, references, scratch=scratch) for members in by_setting.values()]


def _cell(members: Sequence[Finished], references: Mapping[Point, Finished], *, scratch: bool) -> Cell:
    first = members[0]
    over_seeds = of_trainings([one.accuracy for one in members])
    pairs = [(references[one.point.dense], one) for one in members if one.point.dense in references]
    if first.point.regime is None:
        pairs = []
    changes = [one.accuracy - dense.accuracy for dense, one in pairs]
    shortest = min(len(one.valid) for one in members)
    return Cell(
        point=first.point,
        scratch=scratch,
        seeds=tuple(one.point.seed for one in members),
        accuracy=over_seeds or of_share(first.right, first.images),
        change=statistics.fmean(changes) if changes else None,
        change_over_images=_over_images(pairs),
        change_over_seeds=of_trainings(changes),
        facts={key: statistics.fmean(one.facts[key] for one in members) for key in first.facts},
        valid=tuple(statistics.fmean(one.valid[i] for one in members) for i in range(shortest)),
    )


def _over_images(pairs: Sequence[tuple[Finished, Finished]]) -> Interval | None:
    """Return the interval of a difference over images; None where it is not known which were right."""
    flags = [(unpack(dense.which), unpack(one.which)) for dense, one in pairs if dense.which and one.which]
    if not flags or len(flags) < len(pairs) or any(len(a) != len(b) or len(a) != len(flags[0][0]) for a, b in flags):
        return None
    if len(flags) == 1:
        before, after = flags[0]
        return of_paired_difference(int((after & ~before).sum()), int((before & ~after).sum()), len(before))
    each = torch.stack([after.double() - before.double() for before, after in flags])
    return of_mean_difference(each.mean(0).tolist())


def to_facts(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain data."""
    facts = asdict(cell)
    return {**facts.pop("point"), **facts, "facts": dict(cell.facts)}


_NUMBERS = ("true_sparsity", "parameters", "nonzero", "macs", "latency_ms", "bytes", "seconds")
_HEAD = (
    "regime", "sparsity", "era_start", "era_end", "learning_rate", "drops", "from_scratch", "seeds", "accuracy",
    "accuracy_low", "accuracy_high", "change", "change_low_images", "change_high_images", "change_low_seeds",
    "change_high_seeds",
)  # fmt: skip


def to_csv(cells: Sequence[Cell]) -> str:
    """Return the cells as CSV text, shares in [0, 1]; empty is what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEAD, *_NUMBERS])
    for cell in cells:
        point, era = cell.point, cell.point.era or (None, None)
        drops = " ".join(map(str, point.drops or ()))
        start = [point.regime or "dense", point.sparsity, *era, point.rate, drops, int(cell.scratch)]
        numbers: list[float | None] = [*_ends(cell.accuracy, value=True), cell.change, *_ends(cell.change_over_images)]
        numbers += [*_ends(cell.change_over_seeds), *(cell.facts.get(name) for name in _NUMBERS)]
        plain = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow([*("" if one is None else one for one in start), " ".join(map(str, cell.seeds)), *plain])
    return text.getvalue()


def _ends(interval: Interval | None, *, value: bool = False) -> list[float | None]:
    if interval is None:
        return [None, None]
    ends: list[float | None] = [interval.low, interval.high]
    return [interval.value, *ends] if value else ends
