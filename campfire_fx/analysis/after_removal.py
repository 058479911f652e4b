"""One graph on the labels that will be there after the removal of dead channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.compact import compact_value
from campfire_fx.analysis.edits.plan import Edit
from campfire_fx.analysis.labelling import GraphRun, Labelling
from campfire_fx.analysis.labels import Labelled, collapse
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.rules import Held
from campfire_fx.analysis.rules.record import parts


class Broken:
    """Stands for the value of a movement that no longer works; what reads it must be rewritten."""


@dataclass(frozen=True, slots=True, eq=False)
class Unmovable(Exception):
    """Labels that must stay because an operation cannot be rewritten for their removal."""

    node: fx.Node
    labels: Tensor
    reason: str


@dataclass(slots=True, eq=False)
class AfterRemoval:
    """One graph as it will be: `values` of nodes, filled in the order of the graph, and the edits found necessary.

    `given`: the arguments that each node had before the edits.
    """

    labelling: Labelling
    live: Liveness
    run: GraphRun
    values: dict[fx.Node, Any] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    given: dict[fx.Node, tuple[Any, Any]] = field(default_factory=dict)
    _compacted: dict[int, Any] = field(default_factory=dict)

    def compacted(self, value: Any) -> Any:
        """Return what a value of the label run becomes; nodes that pass labels on share them, so once for each."""
        if id(value) not in self._compacted:
            self._compacted[id(value)] = compact_value(value, self.live)
        return self._compacted[id(value)]

    def labels_of(self, node: fx.Node) -> Tensor:
        """Return the labels of a node; of a number or of broken movement, also those of what it is made from."""
        seen, waiting, labels = set[fx.Node](), [node], [torch.zeros(0)]
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            found = parts(self._with_labels(self.run.values[current]), Labelled)
            labels += [collapse(v.labels).flatten() for v in found]
            if isinstance(self.run.values[current], Held):
                labels += self.labelling.structure.ports(self.run.values[current].tensor)
            if not found or isinstance(self.values.get(current), Broken):
                waiting += current.all_input_nodes
        return torch.cat(labels)

    def _with_labels(self, value: Any) -> Any:
        """Return the labels of a parameter or buffer in its place, if its elements have some."""
        if not isinstance(value, Held):
            return value
        known = self.labelling.structure.tensors.get(id(value.tensor))
        return value if known is None else known[1]
