"""Replay movement on compacted labels; rewrite the arguments of operations that the removal breaks.

The law of every operation f and every keep-set: f(compact(labels)) == compact(f(labels)). Here it is checked node by
node, on the labels that will be there after the removal. Where it fails:

1. explicit sizes (view, expand, split, chunk, pad) are set to the sizes that remain;
2. else a chain of movements that only selects and reorders channels (channel shuffles, slices) is replaced by one
   `narrow` or `index_select` whose indices the label run gives;
3. else the channels involved must stay: `Unmovable` names them.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.after_removal import AfterRemoval, Broken, Unmovable
from campfire_fx.analysis.compact import Uneven, Vanished, compact_value, shape_after_removal
from campfire_fx.analysis.edits.attention_scale import keep_scale
from campfire_fx.analysis.edits.compensated_norm import spread_edit
from campfire_fx.analysis.edits.gates import gate_edit
from campfire_fx.analysis.edits.law import holds, same
from campfire_fx.analysis.edits.norm_groups import count_groups
from campfire_fx.analysis.edits.plan import Edit
from campfire_fx.analysis.edits.reindex import Reindex, find_reindex
from campfire_fx.analysis.edits.rewrite_arguments import Selected, rewritten
from campfire_fx.analysis.labelling import GraphRun, Labelling, substitute
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules import Held, Kind
from campfire_fx.analysis.rules.effects import writes_in_place
from campfire_fx.analysis.rules.kinds import GATES
from campfire_fx.analysis.rules.movement import asks_shape
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes, parts
from campfire_fx.base.location import place


def plan_rewrites(labelling: Labelling, live: Liveness) -> list[AfterRemoval]:
    """Return every graph as it will be, with the edits that it needs for the removal.

    Raises:
        Unmovable: some labels must stay after all.
    """
    graphs = [AfterRemoval(labelling, live, run) for run in labelling.runs]
    with torch.no_grad():
        for after in graphs:
            for node in after.run.graph.nodes:
                after.given[node] = (node.args, node.kwargs)
                _step(after, node)
    return graphs


def _step(after: AfterRemoval, node: fx.Node) -> None:
    run = after.run
    original = run.values.get(node)
    try:
        expected = after.compacted(original)
    except Uneven:
        if node.op in ("call_function", "call_method", "call_module") and run.rule(node).movement:
            after.values[node] = Broken()  # fine inside a chain that can be replaced as a whole
            return
        expected = _even(after, node)
    if node.op == "output":
        _check_readers(after, node)
    elif node.op in ("placeholder", "get_attr"):
        after.values[node] = _compact_held(after, original) if node.op == "get_attr" else expected
    elif isinstance(expected, Vanished):
        after.values[node] = expected
    elif not parts(original, Labelled):
        after.values[node] = _plain(after, node, original)
    elif run.rule(node).movement:
        after.values[node] = _movement(after, node, expected)
    elif run.rule(node).kind in GATES:
        _check_readers(after, node)
        after.edits.append(gate_edit(run, node, after.live))
        after.values[node] = expected
    elif run.rule(node).kind is Kind.SPREAD:
        _check_readers(after, node)
        after.edits.append(spread_edit(run, node, after.live))
        after.values[node] = expected
    else:
        _check_readers(after, node)
        _check_numbers(after, node)
        if run.rule(node).kind is Kind.ATTEND:
            after.edits += keep_scale(after, node)
        elif run.rule(node).kind is Kind.NORMALISE:
            after.edits += count_groups(after, node)
        after.values[node] = expected


def _compact_held(after: AfterRemoval, value: Any) -> Any:
    if isinstance(value, Held):
        known = after.labelling.structure.tensors.get(id(value.tensor))
        return value if known is None else compact_value(known[1], after.live)
    return value


def _check_readers(after: AfterRemoval, node: fx.Node) -> None:
    for source in node.all_input_nodes:
        if isinstance(after.values.get(source), Broken):
            _settle(after, source, f"{place(node)} needs its result as it was")


def _settle(after: AfterRemoval, node: fx.Node, reason: str) -> None:
    """Let a movement stay after all, on rows (heads) that lost different channels, as many each."""
    for source in node.all_input_nodes:
        if isinstance(after.values.get(source), Broken):
            _settle(after, source, reason)
    expected = _even(after, node)
    if not _keeps(after, node, expected):
        raise Unmovable(node, after.labels_of(node), reason)
    after.values[node] = expected


def _even(after: AfterRemoval, node: fx.Node) -> Any:
    try:
        return compact_value(after.run.values[node], after.live, even=True)
    except Uneven as uneven:
        raise Unmovable(node, uneven.labels, "what is left would not be rectangular") from None


def _plain(after: AfterRemoval, node: fx.Node, original: Any) -> Any:
    """Recompute a size or number."""
    _check_readers(after, node)
    rule = after.run.rule(node)
    if rule.kind is Kind.ASK and any(isinstance(after.values[source], Vanished) for source in node.all_input_nodes):
        raise Unmovable(node, after.labels_of(node), "its size is asked for")
    if rule.kind is Kind.GUARD:
        _check_guard(after, node)
        return None
    reads_activations = any(parts(after.run.values[source], Labelled) for source in node.all_input_nodes)
    if reads_activations and rule.kind not in (Kind.ASK, Kind.CAST):
        return original  # a barrier without a result: what it reads is pinned
    if any(isinstance(after.run.values[source], Held) for source in node.all_input_nodes):
        return _asked_of_parameter(after, node) if asks_shape(node) else original
    sources = node.all_input_nodes[:1] if rule.kind is Kind.CAST else node.all_input_nodes
    if all(_unchanged(after, source) for source in sources):
        return original
    if rule.kind is Kind.CAST:
        raise Unmovable(node, after.labels_of(node), "a tensor is made in the size of these channels")
    args, kwargs = substitute(after.values, node)
    args, kwargs = map_nested((args, kwargs), lambda v: v.labels if isinstance(v, Labelled) else v)
    value = invoke(node, None, args, kwargs)
    if isinstance(value, Tensor) and not same(value, original):
        raise Unmovable(node, after.labels_of(node), "a tensor is made in the size of these channels")
    return value


def _asked_of_parameter(after: AfterRemoval, node: fx.Node) -> Any:
    """Ask a parameter for its shape as it will be."""
    args, kwargs = substitute(after.run.values, node)
    shape = functools.partial(shape_after_removal, after.labelling.structure, after.live)
    args, kwargs = map_nested(
        (args, kwargs), lambda v: torch.empty(shape(v.tensor), device="meta") if isinstance(v, Held) else v
    )
    return invoke(node, None, args, kwargs)


def _check_guard(after: AfterRemoval, guard: fx.Node) -> None:
    """A guard asks what the model given was asked; a smaller size would be another question."""
    waiting, seen = list(guard.all_input_nodes), set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node in seen or parts(after.run.values[node], Labelled):
            continue
        seen.add(node)
        if not same(after.values[node], after.run.values[node]):
            raise Unmovable(node, after.labels_of(node), "the model asks for its size")
        waiting += node.all_input_nodes


def _unchanged(after: AfterRemoval, source: fx.Node) -> bool:
    original, now = after.run.values[source], after.values[source]
    if isinstance(original, Labelled) and isinstance(now, Labelled):
        return original.shape == now.shape  # a question about an activation is about its shape
    return now is original or (not parts(original, Labelled) and same(now, original))


def _check_numbers(after: AfterRemoval, node: fx.Node) -> None:
    """An operation that computes with a channel count would compute something else afterwards."""
    spare = after.run.rule(node).spare
    size = node.args[1] if spare is not None and len(node.args) > 1 else node.kwargs.get("size")
    for source in node.all_input_nodes:
        original, now = after.run.values[source], after.values[source]
        if parts(original, Labelled) or isinstance(original, (Held, torch.device, torch.dtype)):
            continue
        if spare is not None and isinstance(size, (tuple, list)) and source is size[spare]:
            continue  # the number of channels, in a size of which only the others count
        if spare is not None and source is size:
            original, now = (list(v[:spare]) + list(v[spare + 1 :]) for v in (original, now))
        if not same(now, original):
            raise Unmovable(source, after.labels_of(source), f"{place(node)} computes with their number")


def _movement(after: AfterRemoval, node: fx.Node, expected: Any) -> Any:
    if any(isinstance(after.values[s], Broken) for s in node.all_input_nodes):
        return _reindexed(after, node, expected)
    if _keeps(after, node, expected):
        return expected
    return _reindexed(after, node, expected)


def _keeps(after: AfterRemoval, node: fx.Node, expected: Any) -> bool:
    """Whether an operation gives what is expected, its arguments rewritten where they must be."""
    if holds(after, node, expected, None):
        return True
    for arguments in rewritten(after, node, expected):
        if holds(after, node, expected, arguments):
            target, args, kwargs = arguments
            after.edits.append(_call_edit(after.run, node, target, args, kwargs))
            return True
    return False


def _call_edit(run: GraphRun, node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Edit:
    def apply(replaced: dict[fx.Node, fx.Node]) -> None:
        node.op = "call_method" if isinstance(target, str) else "call_function"
        node.target = target
        made = map_nested((args, kwargs), lambda v: v.made(run.module, node) if isinstance(v, Selected) else v)
        node.args, node.kwargs = map_nodes(made, lambda n: replaced.get(n, n))

    return Edit(run, node, "sizes rewritten", "its sizes are written out, and channels were removed", apply)


def _reindexed(after: AfterRemoval, node: fx.Node, expected: Any) -> Any:
    """Case 7: replace the chain of movements that ends here by one selection of channels."""
    if not isinstance(expected, Labelled):
        return expected if expected is None else Broken()
    if any(writes_in_place(user, after.run.submodule(user)) for user in node.users):
        return Broken()  # a selection would be a copy, and the write would be lost
    broken = {n for n, v in after.values.items() if isinstance(v, Broken)}
    found = find_reindex(after.run, after.live, node, broken)
    if found is None:
        return Broken()
    after.edits.append(_reindex_edit(after.run, node, found))
    return expected


def _reindex_edit(run: GraphRun, node: fx.Node, found: Reindex) -> Edit:
    return Edit(
        run,
        node,
        f"replaced by {found.describe()}",
        "its pieces lost different numbers of channels",
        lambda replaced: found.apply(run.module, node, replaced),
    )
