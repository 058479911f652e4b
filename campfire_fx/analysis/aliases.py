"""Shared memory: which nodes of a graph name one tensor or views of it, so that a write in place reaches them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import BuiltinFunctionType
from typing import Any

from torch import Tensor, fx, nn

from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.rules.barriers import BARRIER
from campfire_fx.analysis.rules.effects import returns_written, writes_in_place, written
from campfire_fx.analysis.rules.kinds import Aliases, Kind
from campfire_fx.analysis.rules.record import map_nested, parts

_NUMBERS_STAY = (Kind.DROP, Kind.CAST)  # a dropout in place writes nothing in evaluation


@dataclass(slots=True, eq=False)
class _Family:
    """Nodes that share memory: `same` are one tensor under several names, `views` look at it in other ways."""

    same: list[fx.Node]
    views: list[fx.Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Memory:
    """Keeps the families of one graph while it is run, and carries writes in place to all members.

    `doubts` takes the nodes whose value is unknown after a write, `overwritten` those whose value is another.
    """

    doubts: set[fx.Node]
    overwritten: set[fx.Node]
    families: dict[fx.Node, _Family] = field(default_factory=dict)

    def note(self, run: GraphRun, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        """Enter a node that was just executed; after a write in place, bring its family up to date.

        A family without views takes the new value; with views, every other name in it counts as unknown.
        """
        module, rule = run.submodule(node), run.rule(node)
        if writes_in_place(node, module) and rule.kind not in _NUMBERS_STAY:
            for target in written(node):
                if target in values:
                    self._write(target, node, values, returns=module is not None or returns_written(node))
        elif rule is BARRIER and _is_foreign(node, module):
            for target in node.all_input_nodes:  # whose code may write to what it is given
                self._forget(self._family(target), values)
        if node not in self.families and rule.aliases is not Aliases.OWN:
            self._join(node, values, rule.aliases)

    def _family(self, node: fx.Node) -> _Family:
        return self.families.setdefault(node, _Family([node]))

    def _join(self, node: fx.Node, values: dict[fx.Node, Any], how: Aliases) -> None:
        """Enter a node into the families of what it may share memory with."""
        operands = node.all_input_nodes if how is Aliases.VIEW else node.all_input_nodes[:1]
        families = [self._family(operand) for operand in operands if parts(values.get(operand), Tensor)]
        if not families:
            return
        family = families[0]
        for other in families[1:]:  # it may share memory with each of them
            if other is not family:
                family.views += [*other.same, *other.views]
                for member in (*other.same, *other.views):
                    self.families[member] = family
        (family.same if how is Aliases.SAME else family.views).append(node)
        self.families[node] = family

    def _write(self, target: fx.Node, node: fx.Node, values: dict[fx.Node, Any], *, returns: bool) -> None:
        family, new = self._family(target), values[node]
        self.overwritten.update(family.same, family.views)
        if returns and isinstance(new, Tensor) and not family.views:
            for member in family.same:
                values[member] = new
        else:
            self._forget(family, values)
        if returns:
            family.same.append(node)
            self.families[node] = family

    def _forget(self, family: _Family, values: dict[fx.Node, Any]) -> None:
        for member in (*family.same, *family.views):
            if member in values:
                self.doubts.add(member)
                values[member] = map_nested(values[member], _unknown)


def _is_foreign(node: fx.Node, module: nn.Module | None) -> bool:
    """Return whether an operation without a rule is not torch's own, so that nothing is known of what it writes."""
    if node.op == "call_method" or isinstance(node.target, BuiltinFunctionType):
        return False
    made: Any = node.target if module is None else type(module)
    return not (getattr(made, "__module__", None) or "").startswith(("torch", "_operator", "builtins", "math"))


def _unknown(value: Any) -> Any:
    """Return NaN in the place of a floating tensor, stretched; other tensors are no constants of channels."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.new_full((), float("nan")).expand(value.shape)
    return value
