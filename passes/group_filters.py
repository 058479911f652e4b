"""Group filters: where sets of filters read the same few inputs, gather these and convolve in groups.

Whether that is faster depends on the layer's shape and on the machine, so both ways are timed on the shapes of the
example, and the convolution stays as it is unless groups are faster by a margin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.edits.convolutions import Convolutions, PlainConvolution, first_input, is_plain
from campfire_fx.analysis.edits.cuts import TensorCut, convolving, like
from campfire_fx.analysis.edits.filter_groups import FilterGroups
from campfire_fx.analysis.edits.plan import exchange, hold, set_argument
from campfire_fx.analysis.edits.trial import MARGIN, as_it_is, trial_inputs
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.plan import GroupChange
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.rules.mixing import bias_of as bias_node
from campfire_fx.analysis.rules.structure import MixCall, Mixer
from campfire_fx.base.compat import parameters_of
from campfire_fx.base.timing import least_times_of
from campfire_fx.passes.runner import Result, graph_pass, removal_decided


@graph_pass(requires=(removal_decided,), doing="timing the groups")
def group_filters(facts: Facts) -> Result:
    """Rewrite the convolutions for which groups pay; what was measured and done: a `GroupChange` each."""
    captured, convolutions, changes = facts.captured, Convolutions(facts.labelling), list[GroupChange]()
    new: dict[int, Tensor] = {}
    for reader, cut in convolving(facts.decided.live.readers, facts.decided.cuts):
        weight = _weight(reader, cut)
        ways = FilterGroups.ways(weight.detach()) if _is_plain(reader.mixer) else []
        if not ways:
            continue
        found = convolutions.read(reader.mixer, weight)
        if any(island.path for island in captured.islands):
            found = "code outside of the graphs may call it"
        elif not isinstance(found, str) and not _owns_biases(found, captured.module, convolutions):
            found = "its bias is also used elsewhere"
        if isinstance(found, str):
            changes.append(GroupChange(reader.mixer.name, weight.shape[1], weight.shape[1], reason=found))
            continue
        change, groups = _decide(found, ways)
        changes.append(change)
        if change.after < change.before:
            new |= _rewrite(facts, reader, found, groups)
    exchange(captured.module, new)
    return Result(bool(new), tuple(changes))


def _is_plain(mixer: Mixer) -> bool:
    return is_plain(mixer) and mixer.layout.groups == 1


def _weight(reader: Reader, cut: Tensor) -> Tensor:
    """Return a weight as it is now: `cut`, or what a norm was folded into since."""
    module = next((call.module for call in reader.mixer.calls if call.module is not None), None)
    return cut if module is None else module.weight  # type: ignore[return-value]


def _owns_biases(conv: PlainConvolution, root: nn.Module, convolutions: Convolutions) -> bool:
    """Whether nothing else reads the biases of the modules that are called."""
    biases = {id(module.bias) for module in conv.modules if module.bias is not None}
    if any(convolutions.reads_by_name(bias) for bias in biases):
        return False
    others = (module for module in root.modules() if module not in conv.modules)
    return not any(id(tensor) in biases for module in others for tensor in parameters_of(module).values())


def _decide(conv: PlainConvolution, ways: Sequence[FilterGroups]) -> tuple[GroupChange, FilterGroups]:
    """Time the convolution and every way to group it, for all calls in evaluation."""
    times = [0.0] * (len(ways) + 1)
    runs = [as_it_is(conv), *(_grouped(conv, groups) for groups in ways)]
    with torch.no_grad():
        for x in trial_inputs(conv):
            took = least_times_of([partial(run, x) for run in runs], x.device)
            times = [sum(pair) for pair in zip(times, took, strict=True)]
    best = min(range(len(ways)), key=lambda way: times[way + 1])
    groups, dense, grouped = ways[best], times[0], times[best + 1]
    name, total = conv.mixer.name, conv.weight.shape[1]
    if grouped > (1 - MARGIN) * dense:
        reason = "groups are not faster"
        return GroupChange(name, total, total, dense_ms=dense, grouped_ms=grouped, reason=reason), groups
    filters, inputs = (tuple(map(tuple, held.tolist())) for held in (groups.filters, groups.inputs))
    return GroupChange(name, total, len(inputs[0]), filters, inputs, dense, grouped), groups


def _grouped(conv: PlainConvolution, groups: FilterGroups) -> Callable[[Tensor], Tensor]:
    """Return the same in groups, as the graph will have it."""
    weight, dim = conv.weight.detach(), -len(conv.settings.axes) - 1
    settings = dataclasses.replace(conv.settings, groups=len(groups.filters))
    convolve = as_it_is(dataclasses.replace(conv, weight=groups.cut(weight), settings=settings))
    inputs, outputs = groups.inputs.flatten().to(weight.device), groups.outputs.to(weight.device)
    if groups.in_order:
        return lambda x: convolve(x.index_select(dim, inputs))
    return lambda x: convolve(x.index_select(dim, inputs)).index_select(dim, outputs)


def _rewrite(facts: Facts, reader: Reader, conv: PlainConvolution, groups: FilterGroups) -> dict[int, Tensor]:
    """Gather before every call, convolve in groups, and put the outputs in order; return the new weight and biases."""
    cuts, names, weight = facts.decided.cuts, facts.labelling.structure.names, conv.weight
    cut = cuts.tensors.setdefault(id(reader.mixer.weight), TensorCut(weight, weight, (None,) * weight.ndim, reader))
    new = {id(weight): _exchanged(cut, weight, groups)}
    for bias in [module.bias for module in conv.modules if isinstance(module.bias, Tensor)]:
        known = next((cut for cut in cuts.tensors.values() if cut.new is bias), None)
        known = TensorCut(bias, bias, (None,)) if known is None else known
        if id(bias) in names:
            cuts.tensors[id(bias)] = known
        new[id(bias)] = _exchanged(known, bias, groups)
    for module in conv.modules:
        module.groups = len(groups.filters)  # type: ignore[assignment]
        module.in_channels, module.out_channels = groups.inputs.numel(), groups.filters.numel()  # type: ignore[assignment]
    held: dict[tuple[int, str], str] = {}
    for run, call in conv.sites:
        _gather(run, call, conv, groups, held)
    return new


def _exchanged(cut: TensorCut, tensor: Tensor, groups: FilterGroups) -> Tensor:
    cut.new, cut.groups = like(tensor, groups.cut(tensor.detach()).contiguous()), groups
    return cut.new


def _gather(
    run: GraphRun, call: MixCall, conv: PlainConvolution, groups: FilterGroups, held: dict[tuple[int, str], str]
) -> None:
    """Let one call gather its inputs, convolve in groups, and give its outputs in the order of the filters."""
    node, graph, dim = call.node, run.graph, -len(conv.settings.axes) - 1

    def index(kind: str, value: Tensor) -> fx.Node:
        known = held.get((id(run.module), kind))
        wanted = f"{conv.mixer.name.replace('.', '_')}_{kind}"
        found = hold(run.module, graph, wanted, value.flatten()) if known is None else graph.get_attr(known)
        held[id(run.module), kind] = str(found.target)
        return found

    def select(source: fx.Node, axis: int, chosen: fx.Node) -> fx.Node:
        return graph.call_function(torch.index_select, (source, axis, chosen))

    with graph.inserting_before(node):
        set_argument(node, 0, "input", select(first_input(node), dim, index("inputs", groups.inputs)))
        if call.module is None:
            set_argument(node, 6, "groups", len(groups.filters))
            bias = bias_node(node)
            if bias is not None:
                set_argument(node, 2, "bias", select(bias, 0, index("filters", groups.filters)))
        order = None if groups.in_order else index("outputs", groups.outputs)
    if order is not None:
        with graph.inserting_after(node):
            ordered = select(node, dim, order)
        node.replace_all_uses_with(ordered, delete_user_cb=lambda user: user is not ordered)
        node.name, ordered.name = f"{node.name}_in_groups", node.name  # what has a name of before is what it was
