"""How constant channels pass an operation: it is executed on them, as its rule says.

Values are as stretched as labels are: a channel is one number, however large the image. NaN: depends on the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.doubt import NAN, blurred, doubtful
from campfire_fx.analysis.labelling import GraphRun, make_call
from campfire_fx.analysis.labels import FIXED, Labelled, broadcast_shape, collapse
from campfire_fx.analysis.rules import Call, Held, Kind, OpRule, Transfer
from campfire_fx.analysis.rules.complex_numbers import known_zeros
from campfire_fx.analysis.rules.effects import writes_in_place
from campfire_fx.analysis.rules.kinds import POSITION_WISE, PRODUCTS
from campfire_fx.analysis.rules.matmul import passed_from
from campfire_fx.analysis.rules.movement import read_padding
from campfire_fx.analysis.rules.norms import affine_of
from campfire_fx.analysis.rules.pointwise import condition_of
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes, parts
from campfire_fx.analysis.rules.structure import Structure
from campfire_fx.analysis.uniform import agreed, stretched_like

__all__ = ["NAN", "Propagation"]

_PLACED = (Kind.SAMPLE, Kind.PICK)  # what else they are given says where to look, not what is there
_PER_POSITION = (*POSITION_WISE, Kind.NORMALISE)


@dataclass(slots=True, eq=False)
class Propagation:
    """One graph on the way; `values` is filled by the caller, in the order of the graph.

    `doubts`: nodes without labels whose value is not the same in every call.
    """

    structure: Structure
    run: GraphRun
    values: dict[fx.Node, Any]
    dtype: torch.dtype
    doubts: set[fx.Node] = field(default_factory=set)
    _known: dict[fx.Node, tuple[Any, bool]] = field(default_factory=dict)

    def unknown(self, labels: Any) -> Any:
        """Return NaN in the shape of every labelled tensor."""
        return map_nested(
            labels,
            lambda v: torch.full((), NAN, dtype=self.dtype).expand(v.shape) if isinstance(v, Labelled) else v,
        )

    def plain(self, node: fx.Node) -> Any:
        """Return the value of a node without labels, and note whether it is in doubt."""
        if doubtful(self.run, node, self.doubts):
            self.doubts.add(node)
        return self.run.values[node]

    def execute(self, node: fx.Node) -> Any:
        """Return what an operation makes of the constants that reach it."""
        rule, labels = self.run.rule(node), self.run.values[node]
        if rule.kind in PRODUCTS:
            return self._crossed(node, labels)
        if rule.constant in (Transfer.TAINT, Transfer.MIX):
            return self.unknown(labels)
        call = make_call(self.run, node, self.structure, lambda _: None, rule)
        if call.says(rule.random) or not self._is_worth_it(call, rule, node):
            return self.unknown(labels)
        pads = self._pads(rule, call)
        if rule.constant is Transfer.KEEP and (pads or node not in self.structure.unstacked):
            result = self._kept(call, rule, labels)
            if pads:
                result = map_nested(result, lambda v: v.masked_fill(v != 0, NAN) if isinstance(v, Tensor) else v)
            return result
        try:
            result = self._evaluate(call, rule, node)
        except Exception:  # noqa: BLE001  whatever cannot be run on NaN proves nothing
            return self.unknown(labels)
        if rule.kind is Kind.PAD and pads and not self.doubts.isdisjoint(node.all_input_nodes):
            value = read_padding(node, call.module).value  # amounts that are zero here need not be so in another call
            result = result.masked_fill(result != (value if isinstance(value, (int, float)) else NAN), NAN)
        return self._normal(labels, result)

    def _is_worth_it(self, call: Call, rule: OpRule, node: fx.Node) -> bool:
        """Whether anything constant comes in or is made, and no number that is read off the input's size."""
        known = False
        for source in node.all_input_nodes:
            plain = self.run.values[source]
            labelled = isinstance(plain, Held) or bool(parts(plain, Labelled))
            known = known or (labelled and self._is_known(source))
        if known or rule.constant is Transfer.PRODUCT:
            return True
        if rule.constant is Transfer.AFFINE:
            scale, _, _ = affine_of(call)
            return isinstance(scale, Tensor) and not bool(scale.all())
        return rule.constant is Transfer.MAKE

    def _pads(self, rule: OpRule, call: Call) -> bool:
        """Whether a uniform channel may change: by what the row says, or by arguments that are not always the same."""
        doubtful = rule.pads is not False and not self.doubts.isdisjoint(call.node.all_input_nodes)
        return doubtful or call.says(rule.pads)

    def _is_known(self, source: fx.Node) -> bool:
        """Whether any number of a value is proven."""
        value = self.values[source]
        seen = self._known.get(source)
        if seen is None or seen[0] is not value:  # a write in place may have changed it
            known = any(not bool(collapse(v).isnan().all()) for v in parts(value, Tensor))
            seen = self._known[source] = (value, known)
        return seen[1]

    def _kept(self, call: Call, rule: OpRule, labels: Any) -> Any:
        """Look each output position up by its label: a channel keeps the value it had."""
        source, incoming = call.operand(0, "input"), call.get(0, "input")
        if (
            source is None
            or not isinstance(incoming, Labelled)
            or (rule.kind not in _PLACED and len(call.labelled()) > 1)
        ):
            return self.unknown(labels)
        first = labels[0] if isinstance(labels, (tuple, list)) else labels
        found = self._look_up(incoming, self.values[source], first)
        if isinstance(labels, (tuple, list)):  # maxima, and where they were found: the places depend on more
            return type(labels)([found, *(self.unknown(v) for v in labels[1:])])
        return found

    def _look_up(self, source: Labelled, value: Tensor, output: Labelled) -> Tensor:
        """Return for each position of an output what all positions of a source with its label have, else NaN."""
        roots = self.structure.forest.find(source.labels)
        keys, value = torch.broadcast_tensors(collapse(roots), collapse(value))
        known, place = torch.unique(keys, return_inverse=True)
        table = agreed(value.flatten(), place.flatten(), known.numel())
        table[known == FIXED] = NAN
        small = collapse(self.structure.forest.find(output.labels))
        spot = torch.searchsorted(known, small.contiguous()).clamp(max=known.numel() - 1)
        return torch.where(known[spot] == small, table[spot], NAN).expand(output.shape)

    def _crossed(self, node: fx.Node, labels: Any) -> Any:
        """A product of two activations is zero where the one that its channels come from is.

        Attention gives means of values, and so a constant where all of these are it.
        """
        result = self.unknown(labels)
        sources, means = passed_from(node)
        for source in sources:
            held = self.run.values[source]
            if isinstance(labels, Labelled) and isinstance(held, Labelled) and self._is_known(source):
                found = self._look_up(held, self.values[source], labels)
                same = found.isfinite() if means else found == 0
                result = torch.where(same, found, result)
        return result

    def _evaluate(self, call: Call, rule: OpRule, node: fx.Node) -> Any:
        if rule.constant is Transfer.EITHER:
            return self._either(rule, node)
        if rule.kind in _PER_POSITION:
            try:
                return self._evaluate_as(call, rule, node, small=True)
            except Exception:  # noqa: BLE001  a normalisation that measures its input wants to see all of it
                pass
        return self._evaluate_as(call, rule, node, small=False)

    def _arguments(self, rule: OpRule, node: fx.Node, *, small: bool, writes: bool) -> tuple[Any, Any]:
        """Return the constants that a call is given, with NaN for what is not the same in every call."""

        def convert(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = collapse(value) if small else value
            return value.clone() if writes else value

        def value(source: fx.Node) -> Any:
            known = self.values[source]
            if source in self.doubts and rule.kind is not Kind.CAST:
                known = blurred(known, whole=not rule.movement, truths=rule.constant is Transfer.EITHER)
            return map_nested(known, convert)

        return map_nodes((node.args, dict(node.kwargs)), value)

    def _evaluate_as(self, call: Call, rule: OpRule, node: fx.Node, *, small: bool) -> Any:
        writes = writes_in_place(node, call.module)
        args, kwargs = self._arguments(rule, node, small=small, writes=writes)
        if small and writes:
            args = (*_together(args),)
        operands = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        zeros, unknown = [], []
        if rule.constant is Transfer.PRODUCT:  # looked for before one is written over
            zeros = [v == 0 for v in operands]
        elif rule.constant is Transfer.POINTWISE:
            unknown = [v.isnan() for v in operands if v.is_floating_point()]
            unknown += [torch.tensor(math.isnan(v)) for v in (*args, *kwargs.values()) if isinstance(v, float)]
        result = invoke(node, call.module, args, kwargs)
        if rule.kind is Kind.GATE_HALVES:
            first = (args[0] if args else kwargs["input"]).chunk(2, call.get(1, "dim", -1))[0]
            result = result.masked_fill(first == 0, 0.0)
        elif rule.constant is Transfer.PRODUCT and zeros:
            result = result.masked_fill(torch.stack(_together(zeros)).any(0), 0.0)
        elif rule.constant is Transfer.POINTWISE:
            for mask in unknown:
                result = result.masked_fill(mask, NAN)
        elif rule.constant is Transfer.AFFINE:
            result = _shifts(call, result)
        return result

    def _either(self, rule: OpRule, node: fx.Node) -> Any:
        """Run a choice as if its condition held everywhere, and nowhere: what is the same is known."""
        args, kwargs = self._arguments(rule, node, small=False, writes=True)
        condition = condition_of(node, args, kwargs)
        if condition.dtype is torch.bool:  # given by the model itself
            return invoke(node, None, args, kwargs)
        results = []
        for truth in (False, True):
            assumed = torch.full_like(condition, truth, dtype=torch.bool)
            given = tuple(assumed if v is condition else v for v in args)
            given_named = {key: assumed if v is condition else v for key, v in kwargs.items()}
            results.append(invoke(node, None, _copied(given), _copied(given_named)))
        one, other = results
        return torch.where(one == other, one, NAN)

    def _normal(self, labels: Any, result: Any) -> Any:
        """Bring results to normal form: as stretched as their labels, NaN where a channel is not uniform."""
        if isinstance(labels, Labelled):
            if isinstance(result, Tensor) and result.is_complex():
                result = known_zeros(result)
            if not isinstance(result, Tensor) or not result.is_floating_point():
                return self.unknown(labels)
            return stretched_like(labels.labels, result)
        if isinstance(labels, (tuple, list)):
            return type(labels)(self._normal(a, b) for a, b in zip(labels, result, strict=True))
        return result


def _copied(value: Any) -> Any:
    return map_nested(value, lambda v: v.clone() if isinstance(v, Tensor) else v)


def _together(args: Any) -> list[Any]:
    """Broadcast the tensors among arguments to one shape, each in memory of its own."""
    shape = broadcast_shape(*(v.shape for v in args if isinstance(v, Tensor)))
    return [v.expand(shape).clone() if isinstance(v, Tensor) else v for v in args]


def _shifts(call: Call, result: Tensor) -> Tensor:
    """Where the scale of a normalisation is zero, its output is its shift."""
    scale, shift, dims = affine_of(call)
    if not isinstance(scale, Tensor):
        return result
    size = [length if dim in dims else 1 for dim, length in enumerate(result.shape)]
    value = torch.zeros_like(scale) if shift is None else shift
    return torch.where((scale == 0).view(size), value.detach().view(size), result)
