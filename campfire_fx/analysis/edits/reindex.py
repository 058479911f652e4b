"""Express a chain of movements as one selection along one dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.compact import kept_line
from campfire_fx.analysis.edits.plan import hold, replace
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules.record import invoke, map_nodes


@dataclass(frozen=True, slots=True, eq=False)
class Reindex:
    """`index` (int64) selects from the concatenation of the sources along `dim`, as they are after the removal."""

    sources: tuple[fx.Node, ...]
    dim: int
    index: Tensor
    length: int

    def is_run(self) -> bool:
        """Whether the selection is one run of consecutive channels."""
        return self.index.numel() > 0 and bool((self.index.diff() == 1).all())

    def describe(self) -> str:
        """Name the operation that takes the chain's place."""
        if self.is_run():
            return "the tensor itself" if self.index.numel() == self.length else "narrow"
        return "index_select"

    def apply(self, root: fx.GraphModule, node: fx.Node, replaced: dict[fx.Node, fx.Node]) -> None:
        """Put the selection in the place of the node; the old chain is left for dead-code removal."""
        graph = node.graph
        sources = [replaced.get(source, source) for source in self.sources]
        with graph.inserting_before(node):
            base = sources[0]
            if len(sources) > 1:
                base = graph.call_function(torch.cat, (sources, self.dim))
            if self.is_run():
                start, count = int(self.index[0]), self.index.numel()
                whole = count == self.length
                new = base if whole else graph.call_function(torch.narrow, (base, self.dim, start, count))
            else:
                index = hold(root, graph, f"{node.name}_index", self.index)
                new = graph.call_function(torch.index_select, (base, self.dim, index))
        replace(node, new, replaced)


def find_reindex(run: GraphRun, live: Liveness, node: fx.Node, broken: set[fx.Node]) -> Reindex | None:
    """Return the selection that gives `node` from the sound activations behind it, or None if there is none.

    Every position of the sources is numbered and the chain is executed on the numbers, so the selection is read
    off, not guessed.
    """
    chain, sources = _chain(run, node, broken)
    if not sources or not all(isinstance(run.values[s], Labelled) for s in sources):
        return None
    numbers, start = {}, 0
    for source in sources:
        shape = run.values[source].shape
        count = shape.numel()
        numbers[source] = torch.arange(start, start + count, dtype=torch.float64).view(shape)
        start += count
    try:
        moved = _execute(run, chain, dict(numbers))[node]
    except Exception:  # noqa: BLE001  a chain that cannot be run on numbers is not a selection
        return None
    if not isinstance(moved, Tensor):
        return None
    for dim in range(moved.ndim):
        index = _selection(moved, [numbers[s] for s in sources], dim)
        if index is not None:
            return _after_removal(run, live, node, sources, dim, index)
    return None


def _chain(run: GraphRun, node: fx.Node, broken: set[fx.Node]) -> tuple[list[fx.Node], list[fx.Node]]:
    """Return the broken movements that lead to a node, in order, and the sound activations that they start from."""
    chain, sources, waiting = {node}, list[fx.Node](), [node]
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source in broken and source not in chain:
                chain.add(source)
                waiting.append(source)
            elif source in broken or source in sources:
                continue
            elif isinstance(run.values[source], (Labelled, tuple, list)):
                sources.append(source)
    order = {n: i for i, n in enumerate(run.graph.nodes)}
    return sorted(chain, key=order.__getitem__), sources


def _execute(run: GraphRun, chain: list[fx.Node], values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
    def value(source: fx.Node) -> Any:
        return values[source] if source in values else run.values[source]

    for node in chain:
        args, kwargs = map_nodes((node.args, dict(node.kwargs)), value)
        values[node] = invoke(node, run.submodule(node), tuple(args), dict(kwargs))
    return values


def _selection(moved: Tensor, numbers: list[Tensor], dim: int) -> Tensor | None:
    """Return index with moved == cat(numbers, dim).index_select(dim, index), or None."""
    if any(n.ndim != moved.ndim for n in numbers):
        return None
    rest = [s for d, s in enumerate(moved.shape) if d != dim]
    if any([s for d, s in enumerate(n.shape) if d != dim] != rest for n in numbers):
        return None
    base = torch.cat(numbers, dim)
    heads = base.movedim(dim, 0).flatten(1)[:, 0]
    wanted = moved.movedim(dim, 0).flatten(1)[:, 0]
    order = heads.argsort()
    spot = torch.searchsorted(heads[order], wanted.contiguous()).clamp(max=heads.numel() - 1)
    index = order[spot]
    return index if torch.equal(base.index_select(dim, index), moved) else None


def _after_removal(
    run: GraphRun, live: Liveness, node: fx.Node, sources: list[fx.Node], dim: int, index: Tensor
) -> Reindex | None:
    """Translate a selection among all channels to one among those that stay."""
    stays = torch.cat([kept_line(run.values[s].labels, live, dim) for s in sources])
    wanted = index[kept_line(run.values[node].labels, live, dim)]
    if not stays[wanted].all():
        return None
    return Reindex(tuple(sources), dim, (stays.cumsum(0) - 1)[wanted], int(stays.sum()))
