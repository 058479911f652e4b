"""Shared memory: which nodes of a graph name one tensor or views of it, so that a write in place reaches them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from campfire_fx.labelling import GraphRun
from campfire_fx.rules.record import map_nested, writes_in_place

# These may return their input itself.
SAME = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "Identity", "dropout",
         "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "stochastic_depth", "to",
         "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "contiguous", "detach",
         "requires_grad_")  # fmt: skip
_COPIES = ("cat", "concat", "concatenate", "stack", "pad", "clone", "repeat", "tile", "index_select", "roll", "flip")


@dataclass(slots=True, eq=False)
class _Family:
    """Nodes that share memory: `same` are one tensor under several names, `views` look at it in other ways."""

    same: list[fx.Node]
    views: list[fx.Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Memory:
    """Keeps the families of one graph while it is run, and carries writes in place to all members."""

    families: dict[fx.Node, _Family] = field(default_factory=dict)

    def note(self, run: GraphRun, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        """Enter a node that was just executed; after a write in place, bring its family up to date.

        A family without views takes the new value; with views, every other name in it counts as unknown.
        """
        target: Any = node.args[0] if node.args else None
        if not isinstance(target, fx.Node) or target not in values:
            return
        module = run.submodule(node)
        name = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        family = self.families.setdefault(target, _Family([target]))
        if name in SAME:  # a dropout in place too: in evaluation mode it writes nothing
            family.same.append(node)
            self.families[node] = family
        elif writes_in_place(node, module):
            self._write(family, node, values)
            family.same.append(node)
            self.families[node] = family
        elif run.rule(node).movement and name not in _COPIES:
            family.views.append(node)
            self.families[node] = family

    def _write(self, family: _Family, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        written = values[node]
        whole = isinstance(written, Tensor) and not family.views
        for member in (*family.same, *family.views):
            values[member] = written if whole else map_nested(values[member], _unknown)


def _unknown(value: Any) -> Any:
    return value.new_full((), float("nan")).expand(value.shape) if isinstance(value, Tensor) else value
