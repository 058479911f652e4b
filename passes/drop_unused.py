"""Drop what nothing uses any more: nodes of dead channels, then modules, parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from campfire_fx.analysis.draws import draws
from campfire_fx.analysis.labelling import GraphRun, Labelling
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.liveness import Liveness


def drop_dead_nodes(labelling: Labelling, live: Liveness) -> None:
    """Erase what computes only dead channels, and the movements and sizes that rewriting has left without a reader.

    Other nodes without a reader stay: they may be there for their effect.
    """
    for run in labelling.runs:
        for node in reversed(list(run.graph.nodes)):
            if node.users or node.op in ("output", "placeholder") or not _is_idle(run, node, live):
                continue
            if not draws(run, node, labelling.structure):
                run.graph.erase_node(node)


def _is_idle(run: GraphRun, node: fx.Node, live: Liveness) -> bool:
    value = run.values.get(node)
    if isinstance(value, Labelled) and value.labels.numel() and not live.keeps(value.labels).any():
        return True
    if node.op == "get_attr":
        return True
    return node.target is not None and (run.rule(node).movement or run.rule(node).name == "ask" or _is_number(value))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, tuple))


def drop_unused(root: nn.Module, keep: Iterable[str]) -> None:
    """Delete submodules, parameters and buffers of a graph module that no path in `keep` leads to or through."""
    wanted = set(keep)
    prefixes = {path[:i] for path in wanted for i in range(len(path)) if path[i] == "."} | wanted
    _prune(root, "", wanted, prefixes)


def _prune(module: nn.Module, path: str, wanted: set[str], prefixes: set[str]) -> None:
    for held in (module._parameters, module._buffers):
        for name in [n for n in held if f"{path}{n}" not in wanted]:
            delattr(module, name)
    for name, child in list(module.named_children()):
        full = f"{path}{name}"
        if full in wanted:
            continue
        if full in prefixes:
            _prune(child, f"{full}.", wanted, prefixes)
        else:
            delattr(module, name)


def used_paths(graphs: Iterable[fx.Graph]) -> set[str]:
    """Return the paths of all modules and tensors that graphs use."""
    return {str(n.target) for graph in graphs for n in graph.nodes if n.op in ("call_module", "get_attr")}
