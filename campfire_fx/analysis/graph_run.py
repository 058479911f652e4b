"""One graph on its way through the analyses: what its nodes call, by which rule, and the values found for them."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.evaluate import RECORDED, Evaluator
from campfire_fx.analysis.rules import Held, OpRule, known_class, lookup
from campfire_fx.analysis.rules.barriers import BARRIER
from campfire_fx.analysis.rules.movement import ask_layout
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes
from campfire_fx.base.copies import private_copy
from campfire_fx.layers.dual import DualGraphModule


@dataclass(frozen=True, slots=True, eq=False)
class _Called:
    """What nodes with one target call, the key that it has in the rule table, and its rule."""

    module: nn.Module | None
    target: Hashable
    rule: OpRule


@dataclass(slots=True, eq=False)
class GraphRun:
    """One graph of a captured model and what the label run gave for each node.

    Attributes:
        number: its place among the runs.
        module: the graph module that owns the parameters.
        graph: the inference graph, or the training graph where that differs.
        training: whether this is the training graph.
        args: example values of the placeholders, in order.
        trains_apart: whether its variant has a training graph besides that for evaluation.
        values: node -> labels (`Labelled`, `Held`, nested) or plain values.
        settled: nodes whose rule is another than their row's, see `Structure`.
    """

    number: int
    module: DualGraphModule
    graph: fx.Graph
    training: bool
    args: list[Any]
    trains_apart: bool = False
    values: dict[fx.Node, Any] = field(default_factory=dict)
    settled: dict[fx.Node, OpRule] = field(default_factory=dict)
    _called: dict[tuple[str, Any], _Called] = field(default_factory=dict)
    _modules: dict[str, nn.Module] = field(default_factory=dict)

    def rule(self, node: fx.Node) -> OpRule:
        """Return the rule of a calling node; operations without a row are barriers."""
        return self.settled.get(node) or self._look_up(node).rule

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


def placeholder_values(graph: fx.Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the example value of each placeholder of a graph, in order."""
    values: list[Any] = []
    position = 0
    nodes = graph.find_nodes(op="placeholder")
    named = {str(node.target) for node in nodes}
    for node in nodes:
        name = str(node.target)
        if name.startswith("**"):
            values.append({key: value for key, value in kwargs.items() if key not in named})
        elif name.startswith("*"):
            values.append(args[position:])
            position = len(args)
        elif position < len(args):
            values.append(args[position])
            position += 1
        else:
            values.append(kwargs[name] if name in kwargs else (node.args[0] if node.args else None))
    return values


def attribute(root: nn.Module, target: str) -> Any:
    """Return what a graph reads by name; whole numbers (indices) are plain values, not parameters with channels."""
    value = operator.attrgetter(target)(root)
    holds = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
    return Held(value) if holds else value


def substitute(values: dict[fx.Node, Any], node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a node's arguments with other nodes replaced by their values."""
    args, kwargs = map_nodes((node.args, dict(node.kwargs)), lambda n: values[n])
    return tuple(args), dict(kwargs)


class ExampleValues:
    """What nodes give on the example, for operations that no rule describes: tensors have shapes, and mostly no data.

    One value is computed at a time, with what it needs; where that takes data, on a copy of the module.
    """

    def __init__(self, run: GraphRun) -> None:
        self._run = run
        self._evaluators: dict[bool, Evaluator] = {}
        self._real: dict[fx.Node, Any] | None = None
        self._copy: nn.Module | None = None

    def __call__(self, node: fx.Node) -> Any:
        """Return the value of a node."""
        if self._real is None:
            try:
                return self._evaluator(layouts=self._run.rule(node).labels is ask_layout).value(node)
            except Exception:  # noqa: BLE001  whatever an operation says that needs data
                self._real = {}
        return self._real_value(node)

    def _evaluator(self, *, layouts: bool) -> Evaluator:
        if layouts not in self._evaluators:
            self._evaluators[layouts] = evaluator = Evaluator(self._run.module, layouts=layouts)
            given = iter(self._run.args)
            for node in self._run.graph.nodes:
                evaluator.created(node)
                if node.op == "placeholder":
                    evaluator.give(node, next(given))
                elif RECORDED in node.meta:
                    evaluator.give(node, node.meta[RECORDED])
        return self._evaluators[layouts]

    def _real_value(self, wanted: fx.Node) -> Any:
        """Run the graph for real, in evaluation mode, as far as this node."""
        values = self._real
        assert values is not None
        if self._copy is None:
            self._copy = private_copy(self._run.module).eval()
        given = iter(self._run.args)
        with torch.no_grad():
            for node in self._run.graph.nodes:
                if node.op == "placeholder":
                    values.setdefault(
                        node, map_nested(next(given), lambda v: v.clone() if isinstance(v, Tensor) else v)
                    )
                elif node not in values:
                    values[node] = self._executed(node, values)
                if node is wanted:
                    break
        return values[wanted]

    def _executed(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        assert self._copy is not None
        if node.op == "get_attr":
            held = attribute(self._copy, str(node.target))
            return held.tensor if isinstance(held, Held) else held
        args, kwargs = substitute(values, node)
        module = self._copy.get_submodule(str(node.target)) if node.op == "call_module" else None
        return invoke(node, module, args, kwargs)
