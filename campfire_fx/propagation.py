"""How constant channels pass an operation: it is executed on them, as its rule says.

Values are as stretched as labels are: a channel is one number, however large the image. NaN: depends on the input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.labelling import GraphRun, make_call
from campfire_fx.labels import FIXED, Labelled, broadcast_shape, collapse
from campfire_fx.rules import Call, Constant, Held, Rule
from campfire_fx.rules.channelwise import channel_dim
from campfire_fx.rules.complex_numbers import PARTS, known_zeros
from campfire_fx.rules.norms import NORMS, is_layer_norm, read_norm
from campfire_fx.rules.record import invoke, map_nested, map_nodes, writes_in_place
from campfire_fx.rules.structure import Structure

NAN = float("nan")
_PER_POSITION = ("pass", "element-wise", "per channel", "normalise")


def has_labels(value: Any) -> bool:
    """Whether a value, however nested, holds labels: whether it is, or holds, an activation."""
    if isinstance(value, (tuple, list, dict)):
        found: list[Any] = []
        map_nested(value, found.append)
        return any(isinstance(v, Labelled) for v in found)
    return isinstance(value, Labelled)


@dataclass(slots=True, eq=False)
class Propagation:
    """One graph on the way; `values` is filled by the caller, in the order of the graph."""

    structure: Structure
    run: GraphRun
    values: dict[fx.Node, Any]
    dtype: torch.dtype
    _known: dict[fx.Node, tuple[Any, bool]] = field(default_factory=dict)

    def unknown(self, labels: Any) -> Any:
        """Return NaN in the shape of every labelled tensor."""
        return map_nested(
            labels,
            lambda v: torch.full((), NAN, dtype=self.dtype).expand(v.shape) if isinstance(v, Labelled) else v,
        )

    def execute(self, node: fx.Node) -> Any:
        """Return what an operation makes of the constants that reach it."""
        rule, labels = self.run.rule(node), self.run.values[node]
        if rule.constant in (Constant.TAINT, Constant.MIX):
            return self.unknown(labels)
        call = make_call(self.run, node, self.structure, lambda _: None, rule)
        draws = rule.random is not None and rule.random(call)
        if draws or not self._is_worth_it(call, rule, node):
            return self.unknown(labels)
        zero = rule.constant is Constant.ZERO or (node.target is getattr and node.args[1] in PARTS)
        if rule.constant is Constant.KEEP or (zero and not _is_unstacking(rule, call)):
            result = self._kept(call, labels)
            if zero and not (rule.keeps is not None and rule.keeps(call)):
                result = map_nested(result, lambda v: v.masked_fill(v != 0, NAN) if isinstance(v, Tensor) else v)
            return result
        try:
            result = self._evaluate(call, rule, node)
        except Exception:  # noqa: BLE001  whatever cannot be run on NaN proves nothing
            return self.unknown(labels)
        return self._normal(labels, result)

    def _is_worth_it(self, call: Call, rule: Rule, node: fx.Node) -> bool:
        """Whether anything constant comes in or is made, and no number that is read off the input's size."""
        known = False
        for source in node.all_input_nodes:
            plain = self.run.values[source]
            if isinstance(plain, (int, float)) and not isinstance(plain, bool) and not rule.movement:
                return False
            known = known or ((has_labels(plain) or isinstance(plain, Held)) and self._is_known(source))
        if known or rule.constant is Constant.PRODUCT:
            return True
        if rule.constant is Constant.AFFINE:
            scale, _ = _affine(call)
            return isinstance(scale, Tensor) and not bool(scale.all())
        return _makes_zeros(call)

    def _is_known(self, source: fx.Node) -> bool:
        """Whether any number of a value is proven."""
        value = self.values[source]
        seen = self._known.get(source)
        if seen is None or seen[0] is not value:  # a write in place may have changed it
            found: list[Any] = []
            map_nested(value, found.append)
            known = any(isinstance(v, Tensor) and not bool(collapse(v).isnan().all()) for v in found)
            seen = self._known[source] = (value, known)
        return seen[1]

    def _kept(self, call: Call, labels: Any) -> Any:
        """Look each output position up by its label: a channel keeps the value it had."""
        source = call.operand(0, "input")
        incoming = call.labelled()
        if source is None or len(incoming) != 1:
            return self.unknown(labels)
        roots = self.structure.forest.find(incoming[0].labels)
        keys, value = torch.broadcast_tensors(collapse(roots), collapse(self.values[source]))
        known, place = torch.unique(keys, return_inverse=True)
        table = _agreed(value.flatten(), place.flatten(), known.numel())
        table[known == FIXED] = NAN

        def at(output: Labelled) -> Tensor:
            small = collapse(self.structure.forest.find(output.labels))
            spot = torch.searchsorted(known, small.contiguous()).clamp(max=known.numel() - 1)
            found = torch.where(known[spot] == small, table[spot], NAN)
            return found.expand(output.shape)

        if isinstance(labels, (tuple, list)):  # maxima, and where they were found: the places depend on more
            return type(labels)([at(labels[0]), *(self.unknown(v) for v in labels[1:])])
        return at(labels)

    def _evaluate(self, call: Call, rule: Rule, node: fx.Node) -> Any:
        if rule.name in _PER_POSITION:
            try:
                return self._evaluate_as(call, rule, node, small=True)
            except Exception:  # noqa: BLE001  a normalisation that measures its input wants to see all of it
                pass
        return self._evaluate_as(call, rule, node, small=False)

    def _evaluate_as(self, call: Call, rule: Rule, node: fx.Node, *, small: bool) -> Any:
        writes = writes_in_place(node, call.module)

        def convert(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = collapse(value) if small else value
            return value.clone() if writes else value

        args, kwargs = map_nodes((node.args, dict(node.kwargs)), lambda n: map_nested(self.values[n], convert))
        if small and writes:
            args = (*_together(args),)
        operands = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        zeros, unknown = [], []
        if rule.constant is Constant.PRODUCT:  # looked for before one is written over
            zeros = [v == 0 for v in operands]
        elif rule.constant is Constant.POINTWISE:
            unknown = [v.isnan() for v in operands if v.is_floating_point()]
        result = invoke(node, call.module, args, kwargs)
        if rule.name == "gated halves":
            first = (args[0] if args else kwargs["input"]).chunk(2, call.get(1, "dim", -1))[0]
            result = result.masked_fill(first == 0, 0.0)
        elif rule.constant is Constant.PRODUCT and zeros:
            result = result.masked_fill(torch.stack(_together(zeros)).any(0), 0.0)
        elif rule.constant is Constant.POINTWISE:
            for mask in unknown:
                result = result.masked_fill(mask, NAN)
        elif rule.constant is Constant.AFFINE:
            result = _shifts(call, result)
        return result

    def _normal(self, labels: Any, result: Any) -> Any:
        """Bring results to normal form: as stretched as their labels, NaN where a channel is not uniform."""
        if isinstance(labels, Labelled):
            if isinstance(result, Tensor) and result.is_complex():
                result = known_zeros(result)
            if not isinstance(result, Tensor) or not result.is_floating_point():
                return self.unknown(labels)
            return _stretched_like(labels.labels, result)
        if isinstance(labels, (tuple, list)):
            return type(labels)(self._normal(a, b) for a, b in zip(labels, result, strict=True))
        return result


def _stretched_like(labels: Tensor, result: Tensor) -> Tensor:
    strides = labels.stride()
    small = collapse(result.expand(labels.shape))
    fixed = collapse(labels)
    if fixed.numel() == 1 and not fixed.any():
        return _along_one(small).expand(labels.shape)
    for dim, size in enumerate(small.shape):
        if strides[dim] == 0 and size > 1:
            small = _uniform(small, dim)
    return small.expand(labels.shape)


def _along_one(small: Tensor) -> Tensor:
    """Leave constants where the labels are fixed, and do not tell channels apart, if they differ along one dimension.

    Then that is where channels lie.
    """
    wide = [dim for dim, size in enumerate(small.shape) if size > 1]
    varied = [dim for dim in wide if _differs(small, small.narrow(dim, 0, 1))]
    for dim in wide:
        if varied != [dim]:
            small = _uniform(small, dim)
    return small


def _differs(values: Tensor, first: Tensor) -> bool:
    return not bool(((values == first) | (values.isnan() & first.isnan())).all())


def _uniform(small: Tensor, dim: int) -> Tensor:
    """Return what all positions along a dimension share, with length 1 there, NaN where they differ."""
    first = small.narrow(dim, 0, 1)
    return first.masked_fill(~(small == first).all(dim, keepdim=True), NAN)


def _is_unstacking(rule: Rule, call: Call) -> bool:
    """Whether a reduction is to be executed: it sums different channels, not one channel over space."""
    return rule.name == "reduce" and rule.keeps is not None and rule.keeps(call)


def _makes_zeros(call: Call) -> bool:
    name = call.target if isinstance(call.target, str) else getattr(call.target, "__name__", "")
    return name in ("zeros_like", "ones_like", "pad", "spread")


def _agreed(value: Tensor, place: Tensor, count: int) -> Tensor:
    """Return per group the value that all members share, else NaN."""
    low = torch.full((count,), float("inf"), dtype=value.dtype).scatter_reduce(0, place, value, "amin")
    high = torch.full((count,), -float("inf"), dtype=value.dtype).scatter_reduce(0, place, value, "amax")
    return low.masked_fill(low != high, NAN)


def _together(args: Any) -> list[Any]:
    """Broadcast the tensors among arguments to one shape, each in memory of its own."""
    shape = broadcast_shape(*(v.shape for v in args if isinstance(v, Tensor)))
    return [v.expand(shape).clone() if isinstance(v, Tensor) else v for v in args]


def _affine(call: Call) -> tuple[Any, Any]:
    """Return the scale and the shift of a normalisation, or None in their place."""
    if call.module is not None:
        return call.module.weight, call.module.bias
    if call.target in NORMS:
        norm = read_norm(call)
        return (None, None) if norm is None else (norm.weight, norm.bias)
    first = 3 if getattr(call.target, "__module__", "") == "torch.nn.functional" else 1
    scale, shift = (getattr(call.get(i, n), "tensor", None) for i, n in ((first, "weight"), (first + 1, "bias")))
    return scale, shift


def _shifts(call: Call, result: Tensor) -> Tensor:
    """Where the scale of a normalisation is zero, its output is its shift."""
    scale, shift = _affine(call)
    if not isinstance(scale, Tensor):
        return result
    size = [1] * result.ndim
    if call.target in NORMS and is_layer_norm(call):
        size[result.ndim - scale.ndim :] = scale.shape
    else:
        size[channel_dim(call, result.ndim)] = -1
    value = torch.zeros_like(scale) if shift is None else shift
    return torch.where((scale == 0).view(size), value.detach().view(size), result)
