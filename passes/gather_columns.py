"""Gather columns: where many columns of a convolution are dead, but no whole taps, make only the live ones.

Whether that is faster depends on the layer's shape and on the machine, so both ways are timed on the shapes of the
example, and the convolution stays as it is unless gathering is faster by a margin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from campfire_fx.analysis.edits.columns import Columns
from campfire_fx.analysis.edits.convolutions import Convolutions, PlainConvolution, first_input, is_plain
from campfire_fx.analysis.edits.cuts import Cuts, TensorCut, convolving, like
from campfire_fx.analysis.edits.plan import exchange, hold, set_argument
from campfire_fx.analysis.edits.trial import MARGIN, as_it_is, trial_inputs
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.plan import ColumnChange
from campfire_fx.analysis.reader import Reader
from campfire_fx.base.timing import least_times
from campfire_fx.passes.runner import Result, graph_pass, removal_decided

_FEWEST_DEAD = 0.1  # part of the columns; with fewer, gathering them cannot be worth it


@graph_pass(requires=(removal_decided,), doing="timing the columns")
def gather_columns(facts: Facts) -> Result:
    """Rewrite the convolutions for which gathering pays; what was measured and done: a `ColumnChange` each."""
    labelling, live, cuts = facts.labelling, facts.decided.live, facts.decided.cuts
    convolutions, changes = Convolutions(labelling), list[ColumnChange]()
    new: dict[int, Tensor] = {}
    for reader, weight in convolving(live.readers, cuts):
        count = (int((weight.detach() != 0).any(0).sum()), weight[0].numel())
        if not 0 < count[0] <= (1 - _FEWEST_DEAD) * count[1]:
            continue
        found = convolutions.read(reader.mixer, weight) if is_plain(reader.mixer) else "it is transposed"
        if any(island.path for island in labelling.captured.islands):
            found = "code outside of the graphs may call it"
        if isinstance(found, str):
            changes.append(ColumnChange(reader.mixer.name, count[1], count[1], reason=found))
            continue
        change, columns = _decide(found)
        changes.append(change)
        if change.after < change.before:
            new[id(weight)] = _rewrite(cuts, reader, found, columns)
    exchange(labelling.captured.module, new)
    return Result(bool(new), tuple(changes))


def _decide(conv: PlainConvolution) -> tuple[ColumnChange, Columns]:
    """Time both ways, for all calls in evaluation."""
    weight = conv.weight.detach()
    columns = Columns.of(weight, conv.settings)
    dense = gathered = 0.0
    with torch.no_grad():
        for x in trial_inputs(conv):
            ways: list[Callable[[Tensor], Tensor]] = [as_it_is(conv), columns.module(weight)]
            times = least_times(lambda: ways[0](x), lambda: ways[1](x), weight.device)  # noqa: B023 - called at once
            dense, gathered = dense + times[0], gathered + times[1]
    total = weight[0].numel()
    pays = gathered <= (1 - MARGIN) * dense
    reason = "" if pays else "gathering is not faster"
    name, after = conv.mixer.name, len(columns.order) if pays else total
    order = tuple(columns.order.tolist()) if pays else ()
    return ColumnChange(name, total, after, order, dense, gathered, reason), columns


def _rewrite(cuts: Cuts, reader: Reader, conv: PlainConvolution, columns: Columns) -> Tensor:
    """Gather before every call, and let the calls convolve 1x1; return the new weight."""
    conv.set(columns.after)
    for module in conv.modules:
        module.in_channels = len(columns.order) * conv.settings.groups  # type: ignore[assignment]
    held: dict[int, str] = {}
    for run, call in conv.sites:
        with run.graph.inserting_before(call.node):
            if id(run.module) in held:
                index = run.graph.get_attr(held[id(run.module)])
            else:
                wanted = f"{conv.mixer.name.replace('.', '_')}_columns"
                index = hold(run.module, run.graph, wanted, columns.channels)
                held[id(run.module)] = str(index.target)
            source = first_input(call.node)
            set_argument(call.node, 0, "input", columns.gather(source, index, conv.weight.shape[1]))
    weight = conv.weight
    new = like(weight, columns.weight(weight.detach()).contiguous())
    cut = cuts.tensors.setdefault(id(reader.mixer.weight), TensorCut(weight, weight, (None,) * weight.ndim, reader))
    cut.new, cut.columns = new, columns.order
    return new
