"""The label run: execute every graph of a captured model on channel labels.

One pass over the nodes finds the whole channel structure: which channels live or die together, which layers make
and read them, what cannot be removed and why. Graphs that share modules (the training and the inference graph,
islands with shared layers) are run over one label forest, so that their shared layers agree.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from campfire_fx.capture import Captured, DualGraphModule
from campfire_fx.errors import ShrinkError
from campfire_fx.labels import Labelled
from campfire_fx.rules import Call, Constant, Held, Rule, known_class, lookup
from campfire_fx.rules.barriers import BARRIER, fix_tensors
from campfire_fx.rules.record import invoke, map_nested, map_nodes
from campfire_fx.rules.structure import Structure, fixed


@dataclass(frozen=True, slots=True, eq=False)
class _Called:
    """What nodes with one target call, the key that it has in the rule table, and its rule."""

    module: nn.Module | None
    target: Hashable
    rule: Rule


@dataclass(slots=True, eq=False)
class GraphRun:
    """One graph of a captured model and what the label run gave for each node.

    Attributes:
        number: its place among the runs.
        module: the graph module that owns the parameters.
        graph: the inference graph, or the training graph where that differs.
        training: whether this is the training graph.
        args: example values of the placeholders, in order.
        values: node -> labels (`Labelled`, `Held`, nested) or plain values.
    """

    number: int
    module: DualGraphModule
    graph: fx.Graph
    training: bool
    args: list[Any]
    values: dict[fx.Node, Any] = field(default_factory=dict)
    _called: dict[tuple[str, Any], _Called] = field(default_factory=dict)
    _modules: dict[str, nn.Module] = field(default_factory=dict)

    def rule(self, node: fx.Node) -> Rule:
        """Return the rule of a calling node; operations without a row are barriers."""
        return self._look_up(node).rule

    def target(self, node: fx.Node) -> Hashable:
        """Return the key of the rule table for a calling node: a torch.nn class, a function, a method's name."""
        return self._look_up(node).target

    def submodule(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, or None."""
        return self._look_up(node).module if node.op == "call_module" else None

    def _look_up(self, node: fx.Node) -> _Called:
        key = (node.op, node.target)
        found = self._called.get(key)
        if found is None:
            module = self._module(str(node.target)) if node.op == "call_module" else None
            target: Any = node.target if module is None else known_class(module) or f"module {type(module).__name__}"
            found = self._called[key] = _Called(module, target, lookup(target) or BARRIER)
        return found

    def _module(self, path: str) -> nn.Module:
        if not self._modules:  # a walk along every path would take longer
            self._modules = dict(self.module.named_modules(remove_duplicate=False))
        return self._modules[path]


@dataclass(slots=True, eq=False)
class Labelling:
    """The channel structure of a whole captured model."""

    captured: Captured
    structure: Structure
    runs: list[GraphRun]


def label(captured: Captured, *, training: bool = True) -> Labelling:
    """Run every graph on labels.

    Args:
        captured: the traced model.
        training: also run training graphs where they differ from the inference graphs.
    """
    structure = Structure(_names(captured.module), frozenset(id(island.module) for island in captured.islands))
    runs: list[GraphRun] = []
    for island in captured.islands:
        args = placeholder_values(island.module.graph, island.args, island.kwargs)
        graphs: list[tuple[fx.Graph, bool]] = [(island.module.graph, False)]
        if training and island.module.train_graph is not None:
            graphs.append((island.module.train_graph, True))
        for graph, is_training in graphs:
            if is_training:
                args = placeholder_values(graph, island.args, island.kwargs)
            runs.append(GraphRun(len(runs), island.module, graph, is_training, args))
    known: dict[Any, _Result] = {}
    for run in runs:
        _run(run, structure, known if run.module.train_graph is not None else None)
    _pin_conflicts(structure)
    return Labelling(captured, structure, runs)


def placeholder_values(graph: fx.Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the example value of each placeholder of a graph, in order."""
    values: list[Any] = []
    position = 0
    for node in graph.find_nodes(op="placeholder"):
        name = str(node.target)
        if name.startswith("**"):
            values.append(kwargs)
        elif name.startswith("*"):
            values.append(args[position:])
        elif position < len(args):
            values.append(args[position])
            position += 1
        else:
            values.append(kwargs[name] if name in kwargs else (node.args[0] if node.args else None))
    return values


def _names(module: nn.Module) -> dict[int, str]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {id(tensor): name for name, tensor in reversed(tensors)}


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """What a call gave in one graph: the same call of another graph, on the same labels, gives it again."""

    node: fx.Node
    value: Any


def _run(run: GraphRun, structure: Structure, known: dict[Any, _Result] | None) -> None:
    structure.graph = run.number
    given = iter(run.args)
    example = ExampleValues(run)
    with torch.no_grad():
        for node in run.graph.nodes:
            if node.op == "placeholder":
                value = fix_tensors(next(given))
                if known is not None:  # the inputs of both graphs
                    value = known.setdefault((id(run.module), node.target), _Result(node, value)).value
                run.values[node] = value
            elif node.op == "get_attr":
                run.values[node] = _attribute(run.module, str(node.target))
            elif node.op == "output":
                structure.pin("output", "the model's output", *_activations(run, node))
            else:
                run.values[node] = _known_call(run, node, structure, example, known)


def _known_call(
    run: GraphRun,
    node: fx.Node,
    structure: Structure,
    example: Callable[[fx.Node], Any],
    known: dict[Any, _Result] | None,
) -> Any:
    """Run a call, or take over what its twin in another graph gave; `known` is None where there is no other graph."""
    key = None if known is None else _signature(run, node)
    if known is None or key is None:
        return _call(run, node, structure, example)
    if key not in known or run.rule(node).constant is Constant.MIX:  # a weight notes every call
        result = _Result(node, _call(run, node, structure, example))
        return known.setdefault(key, result).value
    if known[key].node in structure.unstacked:
        structure.unstacked.add(node)
    return known[key].value


def _signature(run: GraphRun, node: fx.Node) -> Any:
    """Return what a node calls and on what, comparable between the graphs of a model; None where it is not."""

    def frozen(value: Any) -> Any:
        if isinstance(value, fx.Node):
            value = run.values[value]
            if isinstance(value, Held):
                return Held, id(value.tensor)
            if isinstance(value, (Labelled, Tensor, tuple, list)):
                return Labelled, id(value)
        elif isinstance(value, (tuple, list)):
            return tuple([frozen(item) for item in value])
        elif isinstance(value, dict):
            return tuple([(key, frozen(item)) for key, item in value.items()])
        elif isinstance(value, slice):
            return slice, frozen(value.start), frozen(value.stop), frozen(value.step)
        return type(value), value  # 1, 1.0 and True are three things

    key = (id(run.module), node.op, node.target, frozen(node.args), frozen(node.kwargs))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _activations(run: GraphRun, node: fx.Node) -> list[Labelled]:
    found: list[Labelled] = []
    map_nodes(node.args, lambda n: map_nested(run.values[n], found.append))
    return [v for v in found if isinstance(v, Labelled)]


def _attribute(root: nn.Module, target: str) -> Any:
    """Return what a graph reads by name; whole numbers (indices) are plain values, not parameters with channels."""
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return Held(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def substitute(values: dict[fx.Node, Any], node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a node's arguments with other nodes replaced by their values."""
    args, kwargs = map_nodes((node.args, dict(node.kwargs)), lambda n: values[n])
    return tuple(args), dict(kwargs)


def make_call(
    run: GraphRun, node: fx.Node, structure: Structure, example: Callable[[fx.Node], Any], rule: Rule
) -> Call:
    """Return the call of a node on the labels found so far."""
    args, kwargs = substitute(run.values, node)
    if rule.constant is not Constant.MIX and rule is not BARRIER:
        args, kwargs = map_nested((args, kwargs), lambda v: _labelled(v, structure, rule))
    return Call(node, run.target(node), run.submodule(node), args, kwargs, structure, example)


def _labelled(value: Any, structure: Structure, rule: Rule) -> Any:
    if not isinstance(value, Held) or rule.constant is Constant.AFFINE or rule.name == "per channel":
        return value
    if value.tensor.numel() == 1:
        structure.pin_tensor(value.tensor)  # a single number, which every channel reads
    return structure.tensor(value.tensor)


def _call(run: GraphRun, node: fx.Node, structure: Structure, example: Callable[[fx.Node], Any]) -> Any:
    rule = run.rule(node)
    asked = _held(run, node) if rule.name == "ask" else []
    if asked:
        return _ask_parameter(run, node, structure, asked)
    call = make_call(run, node, structure, example, rule)
    if not call.labelled() and not call.held() and call.module is None:
        return _plain(node, call)
    try:
        return rule.flow(call)
    except ShrinkError:
        raise
    except Exception as error:
        raise ShrinkError(
            f"The label run failed at {call.where()} ({rule.name}): {error} "
            "Please report this; as a workaround wrap the operation in a module that torch.fx keeps as a leaf."
        ) from error


def _held(run: GraphRun, node: fx.Node) -> list[Held]:
    values = [run.values[source] for source in node.all_input_nodes]
    return [value for value in values if isinstance(value, Held)]


_SHAPELESS = ("dtype", "device", "requires_grad", "layout", "is_cuda")


def _ask_parameter(run: GraphRun, node: fx.Node, structure: Structure, asked: list[Held]) -> Any:
    """Answer a question about a parameter itself; one whose shape is asked for keeps its shape."""
    if not (node.target is getattr and node.args[1] in _SHAPELESS):
        for held in asked:
            structure.pin_tensor(held.tensor)
    args, kwargs = substitute(run.values, node)
    args, kwargs = map_nested((args, kwargs), lambda v: v.tensor if isinstance(v, Held) else v)
    return invoke(node, None, args, kwargs)


def _plain(node: fx.Node, call: Call) -> Any:
    """Execute what depends on no activation: sizes, numbers, tensors made from them."""
    if node.target in (torch._assert, print):
        return None
    return invoke(node, None, call.args, call.kwargs)


def _pin_conflicts(structure: Structure) -> None:
    """Pin a weight that is both mixed with and used in some other way."""
    for key in structure.mixers.keys() & structure.tensors.keys():
        mixer = structure.mixers[key]
        structure.pin(mixer.name, "its weight is also used directly", mixer.inputs, mixer.outputs)
        structure.pin(mixer.name, "its weight is also used directly", structure.tensors[key][1])


class ExampleValues:
    """True (fake-tensor) values of nodes, computed on demand, for operations that no rule describes."""

    def __init__(self, run: GraphRun) -> None:
        self._run = run
        self._values: dict[fx.Node, Any] | None = None

    def __call__(self, node: fx.Node) -> Any:
        if self._values is None:
            self._values = self._evaluate(fake=True)
        if node not in self._values:
            self._values = self._evaluate(fake=False)
        return self._values[node]

    def _evaluate(self, fake: bool) -> dict[fx.Node, Any]:
        """Run the graph in evaluation mode as far as it goes; fake tensors cost no arithmetic."""
        run, values = self._run, dict[fx.Node, Any]()
        mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
        flags = [(m, m.training) for m in run.module.modules()]
        try:
            run.module.eval()
            with torch.no_grad():
                if mode is None:
                    self._fill(values, lambda v: v)
                else:
                    with mode:
                        self._fill(values, lambda v: mode.from_tensor(v) if isinstance(v, Tensor) else v)
        except Exception:
            if not fake:
                raise
        finally:
            for module, training in flags:
                module.training = training
        return values

    def _fill(self, values: dict[fx.Node, Any], convert: Callable[[Any], Any]) -> None:
        given = iter(self._run.args)
        for node in self._run.graph.nodes:
            if node.op == "placeholder":
                values[node] = map_nested(next(given), convert)
            elif node.op == "get_attr":
                held = _attribute(self._run.module, str(node.target))
                values[node] = held.tensor if isinstance(held, Held) else held
            elif node.op != "output":
                args, kwargs = substitute(values, node)
                values[node] = invoke(node, self._run.submodule(node), args, kwargs)


__all__ = ["GraphRun", "Labelling", "fixed", "label", "make_call", "placeholder_values", "substitute"]
