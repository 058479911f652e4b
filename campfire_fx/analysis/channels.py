"""The dependency graph: which layers make channels, which read them, and which must share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.labelling import GraphRun, Labelling, label
from campfire_fx.analysis.labels import Labelled, collapse
from campfire_fx.analysis.rules import Transfer
from campfire_fx.analysis.rules.barriers import BARRIER
from campfire_fx.analysis.rules.record import parts
from campfire_fx.analysis.rules.structure import Mixer
from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.location import operation, place
from campfire_fx.sparsity.channels.coupling import Coupling

if TYPE_CHECKING:
    import networkx as nx


def require_channels(labelling: Labelling) -> None:
    """Check that there is something to shrink.

    Raises:
        ShrinkError: the model has no convolution and no linear layer that could be captured.
    """
    if all(mixer.virtual for mixer in labelling.structure.mixers.values()):
        raise ShrinkError(
            "The model has no convolution or linear layer that could be captured, so there are no channels to remove. "
            "Give a model with at least one, called in its forward on the example inputs."
        )


def channel_graph(captured: Captured, coupling: Coupling | None = None) -> nx.DiGraph:
    """Return how channels flow between the layers of a captured model, as `dependency_graph` describes it."""
    import networkx as nx  # slow to load

    labelling = label(captured, training=False)
    graph = nx.DiGraph()
    sets = _sets(labelling, coupling)
    pinned = {pin.node: pin.reason for pin in labelling.structure.pins}
    for run in labelling.runs:
        _Builder(labelling, run, graph, pinned, sets).build()
    return graph


def _sets(labelling: Labelling, coupling: Coupling | None) -> dict[int, str]:
    """Return the name of the coupled set that each label belongs to, by what layers write."""
    if coupling is None:
        return {}
    outputs = {layer.path: layer.outputs for layer in coupling.layers}
    found: dict[int, str] = {}
    for mixer in labelling.structure.mixers.values():
        groups = outputs.get(mixer.name)
        if mixer.virtual or groups is None or groups.size != mixer.outputs.numel():
            continue
        for root, group in zip(labelling.structure.forest.find(mixer.outputs).tolist(), groups, strict=True):
            if group >= 0:
                found[root] = coupling.sets[coupling.set_of[group]].name
    return found


class _Builder:
    """Adds one graph run to the dependency graph."""

    def __init__(
        self, labelling: Labelling, run: GraphRun, graph: nx.DiGraph, pinned: dict[str, str], sets: dict[int, str]
    ) -> None:
        self._run, self._graph, self._pinned, self._sets = run, graph, pinned, sets
        self._forest = labelling.structure.forest
        self._mixers = {
            call.node: mixer
            for mixer in labelling.structure.mixers.values()
            for call in mixer.calls
            if call.graph == run.number and not mixer.virtual
        }
        # node of the model's graph -> producers of its channels: (dependency node, operations passed through)
        self._origins: dict[fx.Node, dict[str, tuple[str, ...]]] = {}

    def build(self) -> None:
        for node in self._run.graph.nodes:
            handle = {"placeholder": self._input, "output": self._output, "get_attr": self._nothing}.get(node.op)
            (handle or self._call)(node)

    def _nothing(self, node: fx.Node) -> None:
        self._origins[node] = {}

    def _input(self, node: fx.Node) -> None:
        if isinstance(self._run.values[node], Labelled):
            count = self._run.values[node].shape[1] if len(self._run.values[node].shape) > 1 else 1
            self._add("input", "the model's input", **_facts("input", "input", 0, count))
            self._origins[node] = {"input": ()}
        else:
            self._nothing(node)

    def _output(self, node: fx.Node) -> None:
        self._add("output", "the model's output", **_facts("output", "output", 0, 0))
        self._link(node, "output", "coupled")

    def _call(self, node: fx.Node) -> None:
        value, rule = self._run.values[node], self._run.rule(node)
        if not parts(value, Labelled):
            self._nothing(node)
        elif node in self._mixers:
            self._mixer(node, self._mixers[node])
        elif rule is BARRIER or rule.constant is Transfer.MIX:
            self._meeting(node, "barrier", "reads")
        elif len(self._activation_inputs(node)) > 1:
            kind = "concat" if rule.movement else "add"
            self._meeting(node, kind, "coupled")
        else:
            self._pass(node)

    def _mixer(self, node: fx.Node, mixer: Mixer) -> None:
        kind = "linear" if mixer.operation.lower() in ("linear", "matmul", "addmm", "einsum") else "conv"
        name = mixer.name
        reason = self._pinned.get(name)
        if reason is None and not self._forest.find(mixer.outputs).any():
            reason = "its channels reach the output, or others that must stay"
        facts = _facts(kind, mixer.operation, mixer.inputs.numel(), mixer.outputs.numel())
        self._add(name, reason, node, **facts)
        depthwise = mixer.layout.groups > 1 and mixer.layout.groups == mixer.inputs.numel() == mixer.outputs.numel()
        self._link(node, name, "coupled" if depthwise else "reads")
        self._origins[node] = {name: ()}

    def _meeting(self, node: fx.Node, kind: str, edge: str) -> None:
        channels = _width(self._run.values[node])
        facts = _facts(kind, _operation(self._run, node), channels, channels)
        name = place(node)
        self._add(name, self._pinned.get(name), node, **facts)
        self._link(node, name, edge)
        self._origins[node] = {name: ()}

    def _pass(self, node: fx.Node) -> None:
        passed = _operation(self._run, node)
        self._origins[node] = {
            origin: (*via, passed) for source in node.all_input_nodes for origin, via in self._origins[source].items()
        }

    def _activation_inputs(self, node: fx.Node) -> list[fx.Node]:
        return [s for s in node.all_input_nodes if self._origins[s]]

    def _add(self, name: str, pinned: str | None, node: fx.Node | None = None, **facts: Any) -> None:
        if name not in self._graph:
            self._graph.add_node(name, **facts, pinned=pinned, sets=self._sets_of(node))

    def _sets_of(self, node: fx.Node | None) -> tuple[str, ...]:
        """Return the coupled sets of a node's outputs, in the order of its channels."""
        if node is None or not self._sets:
            return ()
        labels = [self._forest.find(value.labels).flatten() for value in parts(self._run.values[node], Labelled)]
        names = [self._sets.get(root) for one in labels for root in dict.fromkeys(one.tolist())]
        return tuple(dict.fromkeys(name for name in names if name))

    def _link(self, node: fx.Node, consumer: str, kind: str) -> None:
        for source in node.all_input_nodes:
            for origin, via in self._origins[source].items():
                channels = self._graph.nodes[origin]["channels_out"]
                if origin != consumer:
                    self._graph.add_edge(origin, consumer, kind=kind, channels=channels, via=via)


def _facts(kind: str, operation: str, inputs: int, outputs: int) -> dict[str, Any]:
    return {"kind": kind, "operation": operation, "channels_in": inputs, "channels_out": outputs}


def _width(value: Any) -> int:
    """Return the number of channels of the first activation in a value: the dimension that varies, else the second."""
    labels = parts(value, Labelled)[0].labels
    varied = [s for s in collapse(labels).shape if s > 1]
    if varied:
        return max(varied)
    return labels.shape[1] if labels.ndim > 1 else labels.numel()


def _operation(run: GraphRun, node: fx.Node) -> str:
    module = run.submodule(node)
    return operation(node) if module is None else type(module).__name__
