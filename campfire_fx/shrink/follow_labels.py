"""Follow labels through the graphs that a shrink has edited: every operation must get the channels that were planned.

Cheap, since it looks at what edits have touched: new nodes, new arguments, and what reads them. What is left is as the
plan has seen it. It runs before the proof by numbers, which zeros, symmetric weights or luck could pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.after_removal import AfterRemoval, Broken
from campfire_fx.analysis.compact import Vanished
from campfire_fx.analysis.edits.cuts import TensorCut, weight_now
from campfire_fx.analysis.graph_run import attribute
from campfire_fx.analysis.labels import FIXED, Labelled, collapse
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.removal import Removal
from campfire_fx.analysis.rules import Held
from campfire_fx.analysis.rules.gates import gate_read
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes
from campfire_fx.base.errors import ShrinkError


def check_channels(removal: Removal) -> None:
    """Check widths of weights, and which channels reach which operation.

    Raises:
        ShrinkError: an edit does something else than was planned.
    """
    free: dict[tuple[int, fx.Node], TensorCut] = {}  # calls that get something else than channels in their order
    for reader in removal.live.readers:
        cut = removal.cuts.tensors.get(id(reader.mixer.weight))
        if cut is not None and cut.reshaped:
            free |= {(call.graph, call.node): cut for call in reader.mixer.calls}
        elif not reader.mixer.virtual:
            _check_width(removal, reader)
    streams = _streams(removal.live)
    with torch.no_grad():
        for after in removal.graphs:
            own = {node: cut for (graph, node), cut in free.items() if graph == after.run.number}
            _Followed(after, streams, own).check()


def _check_width(removal: Removal, reader: Reader) -> None:
    inputs, outputs = (removal.live.alive[port].sum(1) for port in (reader.inputs, reader.outputs))
    kernels, layout = int((inputs * outputs).sum()), reader.mixer.layout
    shape = weight_now(removal.cuts, reader).shape
    if shape[layout.out_axis] * shape[layout.in_axis] != kernels:
        raise _wrong(reader.mixer.name, f"its weight is {tuple(shape)}, and the plan keeps {kernels} kernels")


def _streams(live: Liveness) -> Tensor:
    """Return, for each label, that of the stream channel which it is behind a gate, or itself."""
    streams = torch.arange(live.roots.numel(), dtype=torch.float64)
    for reader in live.readers:
        if reader.mixer.virtual and reader.mixer.calls[0].node.target is gate_read:
            streams[reader.outputs.flatten()] = reader.inputs.flatten().double()
    return streams[live.roots]


@dataclass(slots=True, eq=False)
class _Followed:
    """The labels of one edited graph. `streams`: see `_streams`; `free`: calls that may get anything, by their cuts."""

    after: AfterRemoval
    streams: Tensor
    free: dict[fx.Node, TensorCut]
    values: dict[fx.Node, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Follow labels through the graph, and compare with the plan."""
        for node in self.after.run.graph.nodes:
            self.values[node] = self._follow(node)

    def _follow(self, node: fx.Node) -> Any:
        """Return the labels of a node's result, compared with the plan where an edit has touched what it reads."""
        planned = self.after.values.get(node)
        if node not in self.after.given:
            return self._inserted(node)
        before, now = self.after.given[node], (node.args, node.kwargs)
        moves = node.op.startswith("call") and self.after.run.rule(node).movement
        if node in self.free:
            return _in_groups(planned, self.free[node])
        if moves and isinstance(planned, Broken):
            return planned
        if before == now and all(self.values[n] is self.after.values[n] for n in node.all_input_nodes):
            return planned
        if moves:
            if not self._agree(self._moved(node), planned):
                raise _wrong(node.name, "it does not give the channels of the plan")
            return planned
        old, new = (list[fx.Node]() for _ in range(2))
        map_nodes(before, old.append)
        map_nodes(now, new.append)
        got, wanted = [self.values[n] for n in new], [self.after.values[o] for o in old]
        if len(old) == len(new) and not all(map(self._agree, got, wanted)):
            raise _wrong(node.name, "it gets other channels than those of the plan")
        return planned

    def _inserted(self, node: fx.Node) -> Any:
        """Return the labels that an inserted node gives: movements run on labels, all else keeps them."""
        if node.op == "get_attr":
            return attribute(self.after.run.module, str(node.target))
        if self.after.run.rule(node).movement:
            return map_nested(self._moved(node), lambda v: Labelled(v) if isinstance(v, Tensor) else v)
        return next((v for n in node.all_input_nodes if isinstance(v := self.values[n], Labelled)), None)

    def _moved(self, node: fx.Node, beside: Mapping[fx.Node, Labelled] | None = None) -> Any:
        """Run a movement on labels; None where those that it reads are not known.

        `beside`: labels that what depends on no input has in a concatenation, and there alone.
        """
        beside = self.after.labelling.structure.joined.get(node, {}) if beside is None else beside
        values = {n: self._operand(n, beside) for n in node.all_input_nodes}
        if any(value is None or isinstance(value, (Broken, Vanished, Held)) for value in values.values()):
            return None
        args, kwargs = map_nodes((node.args, dict(node.kwargs)), values.__getitem__)
        args, kwargs = map_nested((args, kwargs), lambda v: v.labels.detach() if isinstance(v, Labelled) else v)
        try:
            return invoke(node, self.after.run.submodule(node), tuple(args), dict(kwargs))
        except Exception as error:
            raise _wrong(node.name, f"it does not run on the channels that are left: {error}") from error

    def _operand(self, node: fx.Node, beside: Mapping[fx.Node, Labelled]) -> Any:
        """Return what a movement gets from a node; of what lies beside activations, a selection may be inserted."""
        if node in beside:
            return beside[node]
        if node not in self.after.given and any(source in beside for source in node.all_input_nodes):
            return Labelled(self._moved(node, beside))
        return self.values[node]

    def _agree(self, got: Any, planned: Any) -> bool:
        """Whether labels are those that were planned, as far as both are known; a padded place may be anything."""
        if isinstance(got, (tuple, list)) and isinstance(planned, (tuple, list)):
            return len(got) == len(planned) and all(map(self._agree, got, planned))
        labels = got.labels if isinstance(got, Labelled) else got
        if not isinstance(labels, Tensor) or not isinstance(planned, Labelled) or got is planned:
            return True
        found, wanted = collapse(labels), collapse(planned.labels)
        sizes = zip(labels.shape, planned.shape, wanted.shape, strict=False)
        if labels.ndim != wanted.ndim or any(a != b and c > 1 for a, b, c in sizes):
            return False
        return bool(((self.streams[found.long()] == self.streams[wanted.long()]) | (found == FIXED)).all())


def _in_groups(planned: Any, cut: TensorCut) -> Any:
    """Return the labels that a convolution gives as its filters lie in groups, if they do."""
    if cut.groups is None or not isinstance(planned, Labelled):
        return planned
    labels, filters = planned.labels, cut.groups.filters.flatten()
    channels = labels.ndim - cut.old.ndim + 1
    shape = (*labels.shape[:channels], len(filters), *labels.shape[channels + 1 :])
    return Labelled(collapse(labels).index_select(channels, filters).expand(shape))


def _wrong(place: str, fact: str) -> ShrinkError:
    return ShrinkError(f"Shrinking would go wrong at {place}: {fact}. Please report this model; it is left as it was.")
