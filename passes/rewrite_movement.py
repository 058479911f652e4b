"""Replay movement on compacted labels; rewrite the arguments of operations that the removal breaks.

The law of every operation f and every keep-set: f(compact(labels)) == compact(f(labels)). Here it is checked node by
node, on the labels that will be there after the removal. Where it fails:

1. explicit sizes (view, expand, split, chunk, pad) are set to the sizes that remain;
2. else a chain of movements that only selects and reorders channels (channel shuffles, slices) is replaced by one
   `narrow` or `index_select` whose indices the label run gives;
3. else the channels involved must stay: `Unmovable` names them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from campfire_fx.labelling import GraphRun, Labelling, substitute
from campfire_fx.labels import Labelled, collapse, varies
from campfire_fx.liveness import CONCATENATIONS, Liveness
from campfire_fx.passes.compact import Uneven, Vanished, compact_value, kept_line
from campfire_fx.passes.edit import Edit
from campfire_fx.passes.gate_residual import gate_edit
from campfire_fx.passes.reindex import Reindex, find_reindex
from campfire_fx.rules import Held
from campfire_fx.rules.record import invoke, map_nested, map_nodes, writes_in_place


class Broken:
    """Stands for the value of a movement that no longer works; what reads it must be rewritten."""


@dataclass(frozen=True, slots=True, eq=False)
class Unmovable(Exception):
    """Labels that must stay because an operation cannot be rewritten for their removal."""

    node: fx.Node
    labels: Tensor
    reason: str


@dataclass(slots=True, eq=False)
class _Replay:
    labelling: Labelling
    live: Liveness
    run: GraphRun
    values: dict[fx.Node, Any] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    _compacted: dict[int, Any] = field(default_factory=dict)

    def compacted(self, value: Any) -> Any:
        """Return what a value of the label run becomes; nodes that pass labels on share them, so once for each."""
        if id(value) not in self._compacted:
            self._compacted[id(value)] = compact_value(value, self.live)
        return self._compacted[id(value)]


def plan_rewrites(labelling: Labelling, live: Liveness) -> list[Edit]:
    """Return the edits that every graph needs for the removal.

    Raises:
        Unmovable: some labels must stay after all.
    """
    edits: list[Edit] = []
    for run in labelling.runs:
        replay = _Replay(labelling, live, run)
        with torch.no_grad():
            for node in run.graph.nodes:
                _step(replay, node)
        edits += replay.edits
    return edits


def _step(replay: _Replay, node: fx.Node) -> None:
    run = replay.run
    original = run.values.get(node)
    try:
        expected = replay.compacted(original)
    except Uneven as uneven:
        if node.op not in ("call_function", "call_method", "call_module") or not run.rule(node).movement:
            raise Unmovable(node, uneven.labels, "what remains would not be rectangular") from None
        replay.values[node] = Broken()  # fine inside a chain that can be replaced as a whole
        return
    if node.op == "output":
        _check_readers(replay, node)
    elif node.op in ("placeholder", "get_attr"):
        replay.values[node] = _compact_held(replay, original) if node.op == "get_attr" else expected
    elif isinstance(expected, Vanished):
        replay.values[node] = expected
    elif not _labelled(original):
        replay.values[node] = _plain(replay, node, original)
    elif run.rule(node).movement:
        replay.values[node] = _movement(replay, node, expected)
    elif run.rule(node).name == "gate":
        _check_readers(replay, node)
        replay.edits.append(gate_edit(run, node, replay.live))
        replay.values[node] = expected
    else:
        _check_readers(replay, node)
        _check_numbers(replay, node)
        replay.values[node] = expected


def _labelled(value: Any) -> list[Labelled]:
    found: list[Any] = []
    map_nested(value, found.append)
    return [v for v in found if isinstance(v, Labelled)]


def _compact_held(replay: _Replay, value: Any) -> Any:
    if isinstance(value, Held):
        known = replay.labelling.structure.tensors.get(id(value.tensor))
        return value if known is None else compact_value(known[1], replay.live)
    return value


def _check_readers(replay: _Replay, node: fx.Node) -> None:
    for source in node.all_input_nodes:
        if isinstance(replay.values.get(source), Broken):
            raise Unmovable(source, _labels_of(replay, source), f"{node.name} needs its result as it was")


def _labels_of(replay: _Replay, node: fx.Node) -> Tensor:
    """Return the labels of a node; of a number, or of movement that no longer works, also of what it is made from."""
    seen, waiting, labels = set[fx.Node](), [node], [torch.zeros(0)]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        found = _labelled(replay.run.values[current])
        labels += [collapse(v.labels).flatten() for v in found]
        if not found or isinstance(replay.values.get(current), Broken):
            waiting += current.all_input_nodes
    return torch.cat(labels)


def _plain(replay: _Replay, node: fx.Node, original: Any) -> Any:
    """Recompute a size or number; drop an assertion about a size that has changed."""
    _check_readers(replay, node)
    if node.target is torch._assert:
        condition = node.args[0]
        if isinstance(condition, fx.Node) and not _same(replay.values[condition], replay.run.values[condition]):
            reason = "it asserts a size that is now smaller"
            replay.edits.append(Edit(replay.run, node, "dropped", reason, lambda _: node.graph.erase_node(node)))
        return None
    reads_activations = any(_labelled(replay.run.values[source]) for source in node.all_input_nodes)
    if reads_activations and replay.run.rule(node).name != "ask":
        return original  # a barrier without a result: what it reads is pinned
    if all(_unchanged(replay, source) for source in node.all_input_nodes):
        return original
    if any(isinstance(replay.run.values[source], Held) for source in node.all_input_nodes):
        return original  # a parameter whose shape is asked for is pinned
    args, kwargs = substitute(replay.values, node)
    args, kwargs = map_nested((args, kwargs), lambda v: v.labels if isinstance(v, Labelled) else v)
    value = invoke(node, None, args, kwargs)
    if isinstance(value, Tensor) and not _same(value, original):
        raise Unmovable(node, _labels_of(replay, node), "a tensor is made in the size of these channels")
    return value


def _unchanged(replay: _Replay, source: fx.Node) -> bool:
    original, now = replay.run.values[source], replay.values[source]
    if isinstance(original, Labelled) and isinstance(now, Labelled):
        return original.shape == now.shape  # a question about an activation is about its shape
    return now is original or (not _labelled(original) and _same(now, original))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.equal(first, second))
    return type(first) is type(second) and bool(first == second)


def _check_numbers(replay: _Replay, node: fx.Node) -> None:
    """An operation that computes with a channel count would compute something else afterwards."""
    for source in node.all_input_nodes:
        original = replay.run.values[source]
        if _labelled(original) or isinstance(original, (Held, torch.device, torch.dtype)):
            continue
        if not _same(replay.values[source], original):
            raise Unmovable(source, _labels_of(replay, source), f"{node.name} computes with their number")


def _movement(replay: _Replay, node: fx.Node, expected: Any) -> Any:
    if any(isinstance(replay.values[s], Broken) for s in node.all_input_nodes):
        return _reindexed(replay, node, expected)
    if _holds(replay, node, expected, None):
        return expected
    for rewrite in (_concatenation, _split_sizes, _pad_amounts, _unflattened_sizes, _shape_arguments, _one_index):
        arguments = rewrite(replay, node, expected)
        if arguments is not None and _holds(replay, node, expected, arguments):
            target, args, kwargs = arguments
            replay.edits.append(_call_edit(replay.run, node, target, args, kwargs))
            return expected
    return _reindexed(replay, node, expected)


Arguments = tuple[Any, tuple[Any, ...], dict[str, Any]]


def _call_edit(run: GraphRun, node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Edit:
    def apply(replaced: dict[fx.Node, fx.Node]) -> None:
        node.op = "call_method" if isinstance(target, str) else "call_function"
        node.target = target
        node.args, node.kwargs = map_nodes((args, kwargs), lambda n: replaced.get(n, n))

    return Edit(run, node, "sizes rewritten", "its sizes are written out and channels went", apply)


def _holds(replay: _Replay, node: fx.Node, expected: Any, arguments: Arguments | None) -> bool:
    """Whether the operation, with these arguments, gives the compacted labels."""
    try:
        if arguments is None:
            args, kwargs = _on_labels(replay, (node.args, dict(node.kwargs)))
            got = invoke(node, replay.run.submodule(node), args, kwargs)
        else:
            target, *rest = arguments
            args, kwargs = _on_labels(replay, tuple(rest))
            name = "reshape" if target == "view" else target
            got = getattr(args[0], name)(*args[1:], **kwargs) if isinstance(name, str) else name(*args, **kwargs)
    except Exception:  # noqa: BLE001  sizes that do not fit are what is being looked for
        return False
    return _matches(got, expected, _fill(replay, node))


def _on_labels(replay: _Replay, arguments: Any) -> Any:
    values = map_nodes(arguments, lambda n: replay.values[n])
    return map_nested(values, lambda v: v.labels if isinstance(v, Labelled) else v)


def _fill(replay: _Replay, node: fx.Node) -> float | None:
    """Return the number that a padding writes, or None: in its place labels say whose channel it stands in."""
    if replay.run.rule(node).name != "pad":
        return None
    module = replay.run.submodule(node)
    given = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    value = getattr(module, "value", 0.0) if module is not None else given
    return float(value) if isinstance(value, (int, float)) else 0.0


def _matches(got: Any, expected: Any, fill: float | None) -> bool:
    if isinstance(expected, Vanished):
        return isinstance(got, Tensor) and got.numel() == 0
    if isinstance(expected, Labelled):
        if not isinstance(got, Tensor) or got.shape != expected.shape:
            return False
        same = collapse(got) == collapse(expected.labels)
        return bool(same.all() if fill is None else (same | (got == fill)).all())
    if isinstance(expected, (tuple, list)):
        return len(got) == len(expected) and all(_matches(a, b, fill) for a, b in zip(got, expected, strict=True))
    return bool(got == expected)


def _given(node: fx.Node, position: int, name: str) -> Any:
    """Return an argument, given by position or by name, or None."""
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


def _concatenation(replay: _Replay, node: fx.Node, _expected: Any) -> Arguments | None:
    """Case 1: operands of a concatenation vanished."""
    operands = _given(node, 0, "tensors")
    if node.target not in CONCATENATIONS or not isinstance(operands, (tuple, list)):
        return None
    left = [a for a in operands if not isinstance(replay.values[a], Vanished)]
    return node.target, (left, *node.args[1:]), {k: v for k, v in node.kwargs.items() if k != "tensors"}


_SPLITS = ("split", "chunk", "tensor_split", "split_with_sizes")


def _split_sizes(replay: _Replay, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 2: pieces of a split; any split into consecutive pieces is a split with sizes."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    original = replay.run.values[node]
    source, dim = _given(node, 0, "tensor" if name == "split" else "input"), _given(node, 2, "dim") or 0
    if name not in _SPLITS or not isinstance(original, (tuple, list)) or not isinstance(source, fx.Node):
        return None
    if not isinstance(dim, int):
        return None
    sizes = [0 if isinstance(piece, Vanished) else piece.shape[dim] for piece in expected]
    return torch.split, (source, sizes, dim), {}


def _pad_amounts(replay: _Replay, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 3: zeros padded onto a channel axis; as many go as their channels go."""
    if replay.run.rule(node).name != "pad" or not isinstance(expected, Labelled):
        return None
    module = replay.run.submodule(node)
    source, given = _given(node, 0, "input"), _given(node, 1, "pad")
    amounts = list(given if module is None else module.padding)  # type: ignore[arg-type]
    incoming, original = replay.run.values[source], replay.run.values[node]
    for i in range(len(amounts) // 2):
        dim = original.labels.ndim - 1 - i
        if varies(incoming.labels, dim):
            line = replay.live.keeps(original.labels).movedim(dim, 0).flatten(1).any(1)
            before, after = amounts[2 * i], amounts[2 * i + 1]
            amounts[2 * i] = int(line[:before].sum())
            amounts[2 * i + 1] = int(line[line.numel() - after :].sum())
    if module is not None:
        return F.pad, (source, amounts, "constant", getattr(module, "value", 0.0)), {}
    rest = node.args[2:]
    return node.target, (source, amounts, *rest), {k: v for k, v in node.kwargs.items() if k not in ("input", "pad")}


def _unflattened_sizes(replay: _Replay, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 4: a dimension unflattened to sizes written out."""
    original, module = replay.run.values[node], replay.run.submodule(node)
    if isinstance(module, nn.Unflatten):
        dim, given = module.dim, module.unflattened_size
    elif getattr(node.target, "__name__", node.target) == "unflatten":
        dim, given = _given(node, 1, "dim"), _given(node, 2, "sizes")
    else:
        return None
    if not isinstance(dim, int) or not isinstance(given, (tuple, list)) or not isinstance(expected, Labelled):
        return None
    first = dim % (original.labels.ndim - len(given) + 1)
    sizes = list(expected.shape[first : first + len(given)])
    return torch.unflatten, (_given(node, 0, "input"), dim, sizes), {}


def _shape_arguments(replay: _Replay, node: fx.Node, expected: Any) -> Arguments | None:
    """Case 5: a shape of numbers written out, or read off a tensor that lost other channels than this one."""
    original = replay.run.values[node]
    if not isinstance(original, Labelled) or not isinstance(expected, Labelled) or node.op == "call_module":
        return None
    if node.target is operator.getitem:
        return None
    listed = len(node.args) == 2 and isinstance(node.args[1], (tuple, list))
    sizes = list(node.args[1]) if listed else list(node.args[1:])  # type: ignore[arg-type]
    if len(sizes) != len(original.shape):
        return None
    new = [
        _size_after(replay, size, old, now)
        for size, old, now in zip(sizes, original.shape, expected.shape, strict=True)
    ]
    return node.target, (node.args[0], tuple(new)) if listed else (node.args[0], *new), dict(node.kwargs)


def _size_after(replay: _Replay, size: Any, old: int, now: int) -> Any:
    """Return one size of a shape: written out anew where it no longer holds, as it is (symbolic) where it does."""
    if isinstance(size, fx.Node):
        if isinstance(replay.run.values[size], Tensor):
            return size
        return now if replay.run.values[size] == old and replay.values[size] != now else size
    return now if size == old else size


def _one_index(replay: _Replay, node: fx.Node, _expected: Any) -> Arguments | None:
    """Case 6: one channel chosen by its number; its number among those that stay is a smaller one."""
    source = _given(node, 0, "input")
    value = replay.run.values.get(source) if isinstance(source, fx.Node) else None
    if not isinstance(value, Labelled):
        return None
    if node.target is operator.getitem:
        given = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        if not all(isinstance(i, int) or i == slice(None) for i in given):
            return None
        index = [_moved(replay, value, dim, i) if isinstance(i, int) else i for dim, i in enumerate(given)]
        return node.target, (source, tuple(index)), {}
    dim, number = _given(node, 1, "dim"), _given(node, 2, "index")
    if getattr(node.target, "__name__", node.target) != "select" or not (
        isinstance(dim, int) and isinstance(number, int)
    ):
        return None
    return torch.select, (source, dim, _moved(replay, value, dim, number)), {}


def _moved(replay: _Replay, value: Labelled, dim: int, index: int) -> int:
    """Return the place of an index among those along one dimension that stay."""
    return int(kept_line(value.labels, replay.live, dim)[: index % value.shape[dim]].sum())


def _reindexed(replay: _Replay, node: fx.Node, expected: Any) -> Any:
    """Case 7: replace the chain of movements that ends here by one selection of channels."""
    if not isinstance(expected, Labelled):
        return expected if expected is None else Broken()
    if any(writes_in_place(user, replay.run.submodule(user)) for user in node.users):
        return Broken()  # a selection would be a copy, and the write would be lost
    broken = {n for n, v in replay.values.items() if isinstance(v, Broken)}
    found = find_reindex(replay.run, replay.live, node, broken)
    if found is None:
        return Broken()
    replay.edits.append(_reindex_edit(replay.run, node, found))
    return expected


def _reindex_edit(run: GraphRun, node: fx.Node, found: Reindex) -> Edit:
    return Edit(
        run,
        node,
        f"replaced by {found.describe()}",
        "channels went unevenly from its pieces",
        lambda replaced: found.apply(run.module, node, replaced),
    )
