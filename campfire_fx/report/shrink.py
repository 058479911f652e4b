"""The report of a shrink: what became smaller and faster, measured, and what did not and why."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text
from torch import nn

from campfire_fx.analysis.plan import LayerChange, ShrinkPlan, Verification
from campfire_fx.base.records import Record
from campfire_fx.cost.measure import (
    Latency,
    MacCount,
    latencies,
    macs,
    one_sample,
    parameters,
    size_bytes,
    zero_weights,
)
from campfire_fx.cost.runtime_times import BenchRecord
from campfire_fx.report.guards import guard_sentence
from campfire_fx.report.numbers import (
    TIME_NOTE,
    cost_note,
    count,
    input_shapes,
    listed,
    milliseconds,
    percent,
    plural,
    shape,
    size,
    time_share,
)
from campfire_fx.report.plan_notes import layer_notes
from campfire_fx.report.proof import proof_line
from campfire_fx.report.runtimes import BenchReport
from campfire_fx.report.style import STYLES, Report
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.sparsity import find_regimes
from campfire_fx.sparsity.entry import HARDLY_SMALLER

_SUMMARY = (Column("", right=False), Column("before"), Column("after"), Column("after / before", 1))
_LAYERS = (
    Column("layer", right=False),
    Column("operation", 8, right=False),
    Column("shape\nbefore", 3),
    Column("shape\nafter", 0),
    Column("dead\nin", 4),
    Column("dead\nout", 4),
    Column("weights\nbefore", 6),
    Column("weights\nafter", 6),
    Column("MACs\nbefore", 7),
    Column("MACs\nafter", 7),
    Column("note", 2, right=False, wraps=True),
)
_MEASURED = (8, 9)  # of these columns
_REPEATS, _ENOUGH = 41, 1.5  # timed calls, and seconds after which fewer do
_FEW_ZEROS = 0.01  # of the weights: not worth a sentence


@dataclass(frozen=True, slots=True)
class SizeRow(Record):
    """One model, measured: parameters, MACs, median latency (ms) and bytes of one call on the example.

    `zeros`: how many weights of layers are zero, and of how many.
    """

    parameters: int
    macs: MacCount
    latency: Latency
    bytes: int
    zeros: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class ShrinkReport(Report):
    """Shows a shrink. `before` is None if the model given is gone, `after` where nothing was measured.

    Attributes:
        inputs: shapes of the tensors of the call that was measured.
        max_rows: how many layers are listed; the totals count all.
        runtimes: what both take in runtimes; None: not asked for.
    """

    plan: ShrinkPlan
    verification: Verification | None
    before: SizeRow | None
    after: SizeRow | None
    inputs: tuple[tuple[int, ...], ...]
    max_rows: int | None = None
    runtimes: BenchRecord | None = None

    def __rich__(self) -> Any:
        summary = [] if self.after is None else [_summary(self.before, self.after)]
        timed = [] if self.runtimes is None else [BenchReport(self.runtimes)]
        return Group(self._layers(), *summary, *timed, *self._sentences())

    def to_json(self) -> str:
        """Return all numbers as JSON text."""
        proof = None if self.verification is None else asdict(self.verification)
        measured = {"before": self.before, "after": self.after}
        sizes = {name: None if row is None else asdict(row) for name, row in measured.items()}
        plan = json.loads(self.plan.to_json())
        timed = None if self.runtimes is None else self.runtimes.to_dict()
        return json.dumps({"plan": plan, "verification": proof, "inputs": self.inputs, "runtimes": timed, **sizes})

    def _layers(self) -> FittedTable:
        layers = self.plan.layers
        shown = layers if self.max_rows is None else layers[: self.max_rows]
        total = ["all layers", "", "", "", *("" for _ in range(6)), ""]
        total[4] = str(sum(c.dead_inputs for c in layers))
        total[5] = str(sum(c.dead_outputs for c in layers))
        total[6], total[7] = (count(weights) for weights in self.plan.weights)
        before, after = (row.macs.per_layer if row else {} for row in (self.before, self.after))
        total[8] = count(sum(before.get(c.name, 0) for c in layers)) if before else ""
        total[9] = count(sum(after.get(c.name, 0) for c in layers))
        notes = layer_notes(self.plan)
        rows = [_layer_row(c, before, after, notes[c.name]) for c in shown]
        title = "Layers" if len(shown) == len(layers) else f"Layers (first {len(shown)} of {len(layers)})"
        told = [i for i in range(len(_LAYERS)) if i not in _MEASURED or self.after is not None]
        shown_total, *cells = ([row[i] for i in told] for row in (total, *rows))
        return FittedTable(title, [_LAYERS[i] for i in told], cells, shown_total)

    def _sentences(self) -> list[Text]:
        texts = [*(Text(remark, style=STYLES["report.bad"]) for remark in self.plan.remarks)]
        texts.append(proof_line(self.verification))
        texts += guard_sentence(self.plan.guards, self.plan.variants)
        kept = defaultdict(list)
        for pin in self.plan.pins:
            kept[pin.reason].append(pin)
        for reason, pins in kept.items():
            places = listed([p.node for p in pins])
            texts.append(Text(f"Always kept: {sum(p.channels for p in pins)} channels at {places}: {reason}."))
        actions = Counter((r.action, r.reason) for r in self.plan.repairs)
        for (action, reason), times in actions.items():
            nodes = listed([r.node for r in self.plan.repairs if (r.action, r.reason) == (action, reason)])
            texts.append(Text(f"Rewritten {times}x, {action}, at {nodes}: {reason}.", style=STYLES["report.note"]))
        texts += _norm_sentences(self.plan)
        texts += [Text(told, style=STYLES["report.bad"]) for told in self._not_smaller()]
        return texts + ([] if self.after is None else self._measured(self.after))

    def _not_smaller(self) -> Iterator[str]:
        sizes = (self.before.parameters, self.after.parameters) if self.before and self.after else self.plan.weights
        if sizes[1] > HARDLY_SMALLER * sizes[0]:
            yield _hardly_smaller(*sizes, self.plan.remarks)

    def _measured(self, after: SizeRow) -> list[Text]:
        zeros, weights = after.zeros
        told = cost_note(self.inputs, after.macs, guessed=self.plan.guessed)
        told += f" {TIME_NOTE}" if after.latency.ratio else ""
        few = zeros <= _FEW_ZEROS * weights
        return [*([] if few else [Text(_zeros_left(zeros, weights))]), Text(told, style=STYLES["report.note"])]


def plan_report(plan: ShrinkPlan, verification: Verification | None = None) -> ShrinkReport:
    """Return the report of what was decided, for which nothing need be run."""
    return ShrinkReport(plan, verification, None, None, ())


def shrink_report(
    slim: Any,
    before: nn.Module | None,
    *,
    repeats: int = _REPEATS,
    max_rows: int | None = None,
    runtimes: BenchRecord | None = None,
) -> ShrinkReport:
    """Measure a slim model, and the model it came from where that is still there.

    Args:
        slim: what `shrink` returned.
        before: the model it was given, or None.
        repeats: timed calls of each model, in turns; fewer where they take long.
        max_rows: how many layers to list; None lists all.
        runtimes: what the two take in runtimes.
    """
    args, kwargs = one_sample(slim, *slim.example)
    models = {"after": slim} if before is None else {"before": before, "after": slim}
    times = latencies(models, args, kwargs, repeats=repeats, enough=_ENOUGH)
    sizes = {
        name: SizeRow(parameters(model), macs(model, args, kwargs), times[name], size_bytes(model), zero_weights(model))
        for name, model in models.items()
    }
    inputs = input_shapes(args, kwargs)
    return ShrinkReport(slim.plan, slim.verification, sizes.get("before"), sizes["after"], inputs, max_rows, runtimes)


def _summary(before: SizeRow | None, after: SizeRow) -> FittedTable:
    """Compare what was measured of the two models."""
    rows = [
        _compare("parameters", before.parameters if before else None, after.parameters, count),
        _compare("MACs", before.macs.total if before else None, after.macs.total, count),
        _times(before, after),
        _compare("bytes", before.bytes if before else None, after.bytes, size),
    ]
    return FittedTable("Shrunk", _SUMMARY, rows)


def _times(before: SizeRow | None, after: SizeRow) -> tuple[str, str, str, str]:
    ratio = after.latency.ratio
    medians = before.latency.median_ms if before else None, after.latency.median_ms
    row = _compare("latency", *medians, lambda value: f"{milliseconds(value)} ms")
    return (*row[:3], row[3] if ratio is None else time_share(ratio))


def _norm_sentences(plan: ShrinkPlan) -> list[Text]:
    """Say which norms were folded, and which were left and why."""
    folded, left = sum(bool(change.layer) for change in plan.norms), defaultdict(list)
    for change in plan.norms:
        if change.reason:
            left[change.reason].append(change.name)
    texts = [Text(f"Folded {plural(folded, 'norm')} into the layers before.")] if plan.norms else []
    texts += [
        Text(f"Not folded: {len(names)} norms at {listed(names)}: {reason}.", style=STYLES["report.note"])
        for reason, names in left.items()
    ]
    return texts


def _hardly_smaller(before: int, after: int, remarks: Sequence[str]) -> str:
    """Say that next to nothing became smaller, and, if masks are what was asked for, which regimes remove channels."""
    told = "Nothing became smaller: no channel is dead." if before == after else "Hardly any channel is dead."
    if any("not final" in remark or "reconfigure()" in remark for remark in remarks):
        return told
    names = ", ".join(entry.name for entry in find_regimes() if entry.gains == "channels")
    return f"{told} Regimes that train whole channels to zero, so that shrink removes them: {names}."


def _zeros_left(zeros: int, weights: int) -> str:
    """Say how many zeros are left, why they are, and what would make use of them."""
    return (
        f"{count(zeros)} of {count(weights)} weights ({percent(zeros / weights)}) are still zero, but remove no"
        " channel: a channel is removed when its whole filter is zero, or all weights that read it. Train with"
        ' regime="channel" for whole channels; shrink(columns=True) leaves out zero columns, shrink(groups=True) the'
        " inputs that whole sets of filters do not read; campfire_fx.accelerate skips single zeros on CPUs."
    )


def _compare(name: str, before: float | None, after: float, form: Any) -> tuple[str, str, str, str]:
    if before is None:
        return name, "-", form(after), "-"
    return name, form(before), form(after), percent(after / before) if before else "-"


def _layer_row(
    change: LayerChange, before: dict[str, int], after: dict[str, int], others: list[str]
) -> tuple[str, ...]:
    notes = [f"{change.folded} constants folded"] if change.folded else []
    notes += [f"{change.merged} constants merged"] if change.merged else []
    notes += others
    notes += [change.reason] if change.reason else []
    return (
        change.name,
        change.operation,
        shape(change.weight_before),
        shape(change.weight_after),
        f"{change.dead_inputs}/{change.inputs[0]}",
        f"{change.dead_outputs}/{change.outputs[0]}",
        count(math.prod(change.weight_before)),
        count(math.prod(change.weight_after)),
        count(before[change.name]) if change.name in before else "-",
        count(after[change.name]) if change.name in after else "-",
        "; ".join(notes),
    )
