"""Compute weights: what a graph computes from parameters alone, and reads as a weight, is computed once.

Weights that are standardised, sliced, scaled, binarised, fake-quantised or made by a hook are the same for every input.
Their value becomes a parameter, so that the convolution that reads it is an ordinary one. Numbers that are read off the
shape of a parameter become plain numbers likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, fx, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.edits.function_layers import layers_made
from campfire_fx.analysis.edits.plan import put_holder, set_argument
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.parametric import Computations, Computed
from campfire_fx.analysis.plan import Repair
from campfire_fx.base.compat import enter_autocast
from campfire_fx.base.location import place
from campfire_fx.layers.dual import DualGraphModule, graphs_of
from campfire_fx.layers.unused import keep_only, used_paths
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided

_NAMES = ("weight", "bias")
_ACTION, _REASON = "weight computed once", "it is made of parameters alone, and so the same for every input"


@graph_pass(requires=(nothing_decided,))
def compute_weights(facts: Facts) -> Result:
    """Put values in the place of computations on parameters, in every graph. Exact in evaluation.

    What draws random numbers or changes state is left as it is, and so is what would need more numbers than it is
    made of (a weight that two layers share, and one transposes).
    """
    repairs, tidied, captured = list[Repair](), False, facts.captured
    for island in captured.islands:
        root, numbering = island.module, dict[object, int]()
        graphs = [graph for graph in graphs_of(root) if not _casts(graph)]
        trains = [v.train_graph for v in root.graph_variants]
        computations = [Computations(root, g, any(g is train for train in trains), numbering) for g in graphs]
        found = [computed for computation in computations for computed in computation.weights()]
        made = _Made(root, captured.whole)
        for group in _sharing(found):
            if _fits(root, group, computations):
                repairs += [made.put(computed) for computed in group]
        for computation in computations:
            tidied |= computation.tidy()
        _make_plain(captured, root, made.settle())
    return Result(bool(repairs) or tidied, tuple(repairs))


def _make_plain(captured: Captured, root: DualGraphModule, holders: set[str]) -> None:
    """Let torch's layers hold what was made, where they can, else modules that say nothing about their tensors."""
    if holders and [island.path for island in captured.islands] == [""]:
        keep_only(root, used_paths(graphs_of(root)))
        made = layers_made(captured, holders)
        for path in holders.difference(made, [""]):
            if type(root.get_submodule(path)) is not nn.Module:
                put_holder(root, path)


def _casts(graph: fx.Graph) -> bool:
    """Whether a part of a graph runs under autocast: what it computes there depends on the device."""
    return bool(graph.find_nodes(op="call_function", target=enter_autocast))


def _sharing(found: Sequence[Computed]) -> Iterator[list[Computed]]:
    """Yield the computations in groups that have no tensor in common."""
    groups: list[tuple[set[str], list[Computed]]] = []
    for computed in found:
        paths, members = {str(node.target) for node in computed.leaves()}, [computed]
        for other in [group for group in groups if group[0] & paths]:
            groups.remove(other)
            paths |= other[0]
            members = other[1] + members
        groups.append((paths, members))
    yield from (members for _, members in groups)


def _fits(root: DualGraphModule, group: Sequence[Computed], computations: Sequence[Computations]) -> bool:
    """Whether the values need no more numbers than go when they take the place of their computations."""
    read = {str(node.target): computed.where.read(node) for computed in group for node in computed.leaves()}
    replaced = {computed.node for computed in group}
    stays = set[str]().union(*(computation.still_read(replaced) for computation in computations))
    called = [f"{n.target}." for graph in graphs_of(root) for n in graph.find_nodes(op="call_module")]
    gone = {id(t): t.numel() for path, t in read.items() if path not in stays and not path.startswith(tuple(called))}
    made = {computed.number: computed.value.numel() for computed in group if not computed.is_no_bias()}
    trained = any(isinstance(tensor, nn.Parameter) for tensor in read.values())
    return not trained or sum(made.values()) <= sum(gone.values())


class _Made:
    """The parameters made for one module, by what they hold: its graphs share them."""

    def __init__(self, root: DualGraphModule, whole: bool) -> None:
        self._root = root
        self._whole = whole
        self._paths: dict[int, str] = {}
        self._leaves: dict[str, str] = {}

    def put(self, found: Computed) -> Repair:
        """Let a graph read the value of a computation in its place."""
        node = found.node
        if found.is_no_bias():
            for user in list(node.users):
                set_argument(user, 2, "bias", None)
            return Repair(place(node), "dropped", "it is a bias of zeros")
        if found.number not in self._paths:
            self._paths[found.number] = self._register(found)
        with node.graph.inserting_before(node):
            read = node.graph.get_attr(self._paths[found.number])
        node.replace_all_uses_with(read)
        return Repair(place(node), _ACTION, _REASON)

    def _register(self, found: Computed) -> str:
        tensors = {str(node.target): found.where.read(node) for node in found.leaves()}
        leaf = next((path for path, tensor in tensors.items() if tensor.shape == found.value.shape), min(tensors))
        holder, name = self._place(leaf, found.value)
        module, path = self._root.get_submodule(holder), f"{holder}.{name}" if holder else name
        if any(isinstance(tensor, nn.Parameter) for tensor in tensors.values()):
            trained = any(tensor.requires_grad for tensor in tensors.values())
            module.register_parameter(name, nn.Parameter(found.value, requires_grad=trained))
        else:
            module.register_buffer(name, found.value)
        self._leaves[path] = leaf
        return path

    def _place(self, leaf: str, value: Tensor) -> tuple[str, str]:
        """Return where a value is to stand: beside its parameter, where no module that is called lies around it."""
        holder, _, name = leaf.rpartition(".")
        called = [n.target for graph in graphs_of(self._root) for n in graph.find_nodes(op="call_module")]
        if not self._whole or any(f"{holder}.".startswith(f"{path}.") for path in called):
            holder, name = "", leaf.replace(".", "_")
        module = self._root.get_submodule(holder)
        free = value.ndim > 1 and name not in _NAMES and holder and not hasattr(module, "weight")
        name = "weight" if free else f"{name}_computed"
        while hasattr(module, name):
            name += "_"
        return holder, name

    def settle(self) -> set[str]:
        """Give what was made the name of its parameter, where nothing reads that any more; return who holds it."""
        used = used_paths(graphs_of(self._root))
        for path, leaf in self._leaves.items():
            holder, _, old = leaf.rpartition(".")
            if leaf in used or old not in _NAMES or path.rpartition(".")[0] != holder:
                continue
            module, name = self._root.get_submodule(holder), path.rpartition(".")[2]
            value = getattr(module, name)
            if isinstance(value, nn.Parameter) and isinstance(getattr(module, old), nn.Parameter):
                used.add(leaf)
                setattr(module, old, value)
                delattr(module, name)
                for node in (n for graph in graphs_of(self._root) for n in graph.find_nodes(op="get_attr")):
                    node.target = leaf if node.target == path else node.target
        return {path.rpartition(".")[0] for path in self._leaves}
