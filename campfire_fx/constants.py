"""Constants: run a graph on NaN, where NaN means "depends on the input"; what stays a number is proven constant.

A layer that mixes channels gives, per output channel, NaN if any non-zero kernel reads a NaN channel, else its
constant. Everything else is executed: NaN flows through normalisation, activations, sums and pools by itself.
A channel (positions of one label) whose values are not all equal counts as NaN, because its values would depend on
the image size. Operations that swallow NaN give NaN (their rows say so).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.labelling import GraphRun, Labelling, make_call
from campfire_fx.labels import FIXED, Labelled, collapse, lines
from campfire_fx.memory import Memory
from campfire_fx.rules import Call, Constant, Held, Rule
from campfire_fx.rules.gates import gate_add
from campfire_fx.rules.record import invoke, map_nested, map_nodes, writes_in_place
from campfire_fx.rules.structure import MixCall, Mixer

NAN = float("nan")


@dataclass(slots=True, eq=False)
class Constants:
    """What is proven constant.

    Attributes:
        values: per graph run, node -> values with NaN for "depends on the input", nested as the node's labels.
        inputs: weight id -> one vector (C,) per call of the weight: the constant that each input channel brings,
            NaN where it depends on the input.
    """

    values: list[dict[fx.Node, Any]] = field(default_factory=list)
    inputs: dict[int, list[tuple[MixCall, Tensor]]] = field(default_factory=dict)


def find_constants(labelling: Labelling) -> Constants:
    """Run every graph on NaN, in evaluation mode whatever its modules' flags."""
    found = Constants()
    calls = {(c.graph, c.node): (m, c) for m in labelling.structure.mixers.values() for c in m.calls}
    root = labelling.captured.module
    flags = [(module, module.training) for module in root.modules()]
    root.eval()
    try:
        with torch.no_grad():
            for run in labelling.runs:
                found.values.append(_run(labelling, run, calls, found))
    finally:
        for module, training in flags:
            module.training = training
    return found


def _run(labelling: Labelling, run: GraphRun, calls: dict[Any, tuple[Mixer, MixCall]], found: Constants) -> Any:
    dtype = next((p.dtype for p in run.module.parameters() if p.is_floating_point()), torch.float32)
    values: dict[fx.Node, Any] = {}
    memory = Memory()
    for node in run.graph.nodes:
        labels = run.values.get(node)
        if node.op == "output":
            continue
        if node.op == "get_attr":
            values[node] = labels.tensor.detach() if isinstance(labels, Held) else labels
        elif node.op == "placeholder":
            values[node] = _unknown(labels, dtype)
        elif (run.number, node) in calls:
            mixer, call = calls[run.number, node]
            if mixer.virtual:
                values[node] = _execute(labelling, run, node, values, dtype)
                found.inputs[id(mixer.weight)] = [(call, _gated(call, node, values))]
            else:
                assert isinstance(labels, Labelled)
                values[node] = _mix(mixer, _behind_padding(run, call), values, labels, found)
        elif not _has_labels(labels):
            values[node] = labels
            memory.note(run, node, values)
        else:
            values[node] = _execute(labelling, run, node, values, dtype)
            memory.note(run, node, values)
    return values


def _has_labels(value: Any) -> bool:
    found: list[Any] = []
    map_nested(value, found.append)
    return any(isinstance(v, Labelled) for v in found)


def _unknown(labels: Any, dtype: torch.dtype) -> Any:
    """Return NaN in the shape of every labelled tensor."""
    return map_nested(
        labels, lambda v: torch.full((), NAN, dtype=dtype).expand(v.shape) if isinstance(v, Labelled) else v
    )


def _mix(mixer: Mixer, call: MixCall, values: dict[fx.Node, Any], labels: Labelled, found: Constants) -> Tensor:
    """Give each output channel its constant, or NaN if a non-zero kernel reads what is not foldable."""
    constant = _per_channel(values[call.source], call.channel_dim)
    found.inputs.setdefault(id(mixer.weight), []).append((call, constant))
    reads = mixer.reads()
    groups, _, width = reads.shape
    incoming = constant.view(groups, 1, width)
    unfoldable = incoming.isnan() | ((incoming != 0) & call.padded)
    out = folded(mixer, constant).to(constant)
    bias = bias_of(call)
    if bias is not None:
        out = out + bias.detach()
    out = out.masked_fill((reads & unfoldable).any(-1).flatten(), NAN)
    size = [1] * len(labels.shape)
    size[call.channel_dim] = out.numel()
    return out.view(size).expand(labels.shape)


def _behind_padding(run: GraphRun, call: MixCall) -> MixCall:
    """Read through zeros padded around the image: a convolution after them is a padded convolution."""
    source = call.source
    if source.op not in ("call_module", "call_function") or run.rule(source).name != "pad":
        return call
    inner, outer = source.args[0], run.values[source]
    module = run.submodule(source)
    mode = source.args[2] if len(source.args) > 2 else source.kwargs.get("mode", "constant")
    filled = source.args[3] if len(source.args) > 3 else source.kwargs.get("value", 0)
    if module is not None:
        mode = "constant" if isinstance(module, nn.modules.padding._ConstantPadNd) else "other"
        filled = getattr(module, "value", 0)
    if mode != "constant" or filled not in (0, None) or not isinstance(inner, fx.Node):
        return call
    if run.values[inner].shape[call.channel_dim] != outer.shape[call.channel_dim]:
        return call
    return replace(call, source=inner, padded=True)


def _per_channel(value: Tensor, dim: int) -> Tensor:
    """Return the constant of each channel along a dimension, NaN where its positions differ."""
    per_channel = lines(value, dim)
    constant = per_channel[:, 0].clone()
    constant[(per_channel != per_channel[:, :1]).any(1)] = NAN  # NaN differs from itself: it stays NaN
    return constant


def _gated(call: MixCall, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
    """Return what a gate can do without: constants that a branch adds, nothing of what a branch reads."""
    constant = _per_channel(values[call.source], call.channel_dim)
    return constant if node.target is gate_add else torch.full_like(constant, NAN)


def folded(mixer: Mixer, constant: Tensor) -> Tensor:
    """Return what constant inputs add to each output channel: sum_i c_i sum_taps W[k, i], shape (K,).

    Exact where every position reads every tap: without zero padding. NaN in `constant` counts as zero. Computed in
    the weight's precision, in float32 at least.
    """
    weight = mixer.weight.detach()
    dtype = weight.dtype if weight.dtype is torch.float64 else torch.float32
    known = constant.nan_to_num(nan=0.0).to(dtype).view(mixer.layout.groups, -1)
    if not known.any():
        return torch.zeros(mixer.outputs.numel(), dtype=dtype)
    kernels = mixer.layout.kernels(weight)
    if kernels.shape[-1] > 1:  # sum the taps of the channels that count, not of all
        used = known.any(0).nonzero().flatten()
        kernels, known = kernels[:, :, used], known[:, used]
    sums = kernels.squeeze(-1) if kernels.shape[-1] == 1 else kernels.sum(-1)
    return torch.einsum("gki,gi->gk", sums.to(dtype), known).flatten()


def bias_of(call: MixCall) -> Tensor | None:
    """Return the bias added by a mixing call, or None."""
    if call.module is not None:
        return call.module.bias  # type: ignore[return-value]
    position = 0 if call.node.target is torch.addmm else 2
    given = call.node.args[position] if position < len(call.node.args) else call.node.kwargs.get("bias")
    if not isinstance(given, fx.Node) or call.node.target in (torch.einsum, torch.matmul, operator.matmul):
        return None
    value: Any = given.graph.owning_module
    for part in str(given.target).split("."):
        value = getattr(value, part)
    return value


def _execute(labelling: Labelling, run: GraphRun, node: fx.Node, values: dict[fx.Node, Any], dtype: Any) -> Any:
    rule = run.rule(node)
    call = make_call(run, node, labelling.structure, lambda _: None, rule)
    labels = run.values[node]
    drawn = rule.random is not None and rule.random(call)
    if drawn or rule.constant in (Constant.TAINT, Constant.MIX) or not _worth(call, run, node, values):
        return _unknown(labels, dtype)
    if rule.constant is Constant.KEEP or (rule.constant is Constant.ZERO and not _unstacking(rule, call)):
        result = _kept(call, values, labels)
        if rule.constant is Constant.ZERO and not (rule.keeps is not None and rule.keeps(call)):
            result = map_nested(result, lambda v: v.masked_fill(v != 0, NAN) if isinstance(v, Tensor) else v)
        return result
    try:
        result = _evaluate(call, rule, node, values)
    except Exception:  # noqa: BLE001  whatever cannot be run on NaN proves nothing
        return _unknown(labels, dtype)
    return _normal(labels, result, labelling, dtype)


def _unstacking(rule: Rule, call: Call) -> bool:
    """Whether a reduction is to be executed: it sums different channels, not one channel over space."""
    return rule.name == "reduce" and rule.keeps is not None and rule.keeps(call)


def _worth(call: Call, run: GraphRun, node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    """Whether anything constant comes in, and no number that is read off the input's size."""
    known = False
    for source in node.all_input_nodes:
        plain = run.values[source]
        if isinstance(plain, (int, float)) and not isinstance(plain, bool) and not run.rule(node).movement:
            return False
        found: list[Any] = []
        map_nested(values[source], found.append)
        moving = _has_labels(plain) or isinstance(plain, Held)
        known |= any(isinstance(v, Tensor) and not bool(collapse(v).isnan().all()) for v in found if moving)
    vanishing = call.module is not None and run.rule(node).constant is Constant.AFFINE
    return known or vanishing or run.rule(node).constant in (Constant.PRODUCT, Constant.AFFINE) or _makes_zeros(call)


def _makes_zeros(call: Call) -> bool:
    return call.target in (torch.zeros_like, torch.ones_like, "pad") or getattr(call.target, "__name__", "") == "pad"


def _kept(call: Call, values: dict[fx.Node, Any], labels: Any) -> Any:
    """Look each output position up by its label: a channel keeps the value it had."""
    source = call.operand(0, "input")
    incoming = call.labelled()
    if source is None or len(incoming) != 1:
        return _unknown(labels, torch.float32)
    roots = call.structure.forest.find(incoming[0].labels)
    keys, value = torch.broadcast_tensors(collapse(roots), collapse(values[source]))
    known, place = torch.unique(keys, return_inverse=True)
    table = _agreed(value.flatten(), place.flatten(), known.numel())
    table[known == FIXED] = NAN

    def at(output: Labelled) -> Tensor:
        small = collapse(call.structure.forest.find(output.labels))
        spot = torch.searchsorted(known, small.contiguous()).clamp(max=known.numel() - 1)
        found = torch.where(known[spot] == small, table[spot], NAN)
        return found.expand(output.shape)

    if isinstance(labels, (tuple, list)):  # maxima, and where they were found: the places depend on more
        return type(labels)([at(labels[0]), *(_unknown(v, torch.float32) for v in labels[1:])])
    return at(labels)


def _agreed(value: Tensor, place: Tensor, count: int) -> Tensor:
    """Return per group the value that all members share, else NaN."""
    low = torch.full((count,), float("inf"), dtype=value.dtype).scatter_reduce(0, place, value, "amin")
    high = torch.full((count,), -float("inf"), dtype=value.dtype).scatter_reduce(0, place, value, "amax")
    return low.masked_fill(low != high, NAN)


_PER_POSITION = ("pass", "element-wise", "per channel")


def _evaluate(call: Call, rule: Rule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    if rule.name in _PER_POSITION:
        try:
            return _evaluate_as(call, rule, node, values, small=True)
        except Exception:  # noqa: BLE001  a normalisation that measures its input wants to see all of it
            pass
    return _evaluate_as(call, rule, node, values, small=False)


def _evaluate_as(call: Call, rule: Rule, node: fx.Node, values: dict[fx.Node, Any], *, small: bool) -> Any:
    def convert(source: fx.Node) -> Any:
        return map_nested(
            values[source], lambda v: (collapse(v) if small else v).clone() if isinstance(v, Tensor) else v
        )

    args, kwargs = map_nodes((node.args, dict(node.kwargs)), convert)
    if small and writes_in_place(node, call.module):
        args = (*_together(args),)
    result = invoke(node, call.module, args, kwargs)
    if rule.name == "gated halves":
        first = (args[0] if args else kwargs["input"]).chunk(2, call.get(1, "dim", -1))[0]
        result = result.masked_fill(first == 0, 0.0)
    elif rule.constant is Constant.PRODUCT:
        zero = (
            torch.stack(
                _together([(v == 0).double() for v in (*args, *kwargs.values()) if isinstance(v, Tensor)])
            ).amax(0)
            > 0
        )
        result = result.masked_fill(zero, 0.0)
    elif rule.constant is Constant.AFFINE:
        result = _shifts(call, result)
    return result


def _together(args: Any) -> list[Any]:
    """Broadcast the tensors among arguments to one shape, each in memory of its own."""
    shape = torch.broadcast_shapes(*(v.shape for v in args if isinstance(v, Tensor)))
    return [v.expand(shape).clone() if isinstance(v, Tensor) else v for v in args]


def _shifts(call: Call, result: Tensor) -> Tensor:
    """Where the scale of a normalisation is zero, its output is its shift."""
    scale: Any
    shift: Any
    if call.module is not None:
        scale, shift = call.module.weight, call.module.bias
    else:
        first = 3 if getattr(call.target, "__module__", "") == "torch.nn.functional" else 1
        scale, shift = (getattr(call.get(i, n), "tensor", None) for i, n in ((first, "weight"), (first + 1, "bias")))
    if not isinstance(scale, Tensor):
        return result
    size = [1, -1] + [1] * (result.ndim - 2)
    value = torch.zeros_like(scale) if shift is None else shift
    return torch.where((scale == 0).view(size), value.detach().view(size), result)


def _normal(labels: Any, result: Any, labelling: Labelling, dtype: torch.dtype) -> Any:
    """Bring results to normal form: as stretched as their labels, NaN where a channel is not uniform."""
    if isinstance(labels, Labelled):
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return _unknown(labels, dtype)
        small = collapse(result.expand(labels.shape))
        roots = labelling.structure.forest.find(labels.labels)
        for dim in range(small.ndim):
            if roots.stride(dim) == 0 and small.shape[dim] > 1:
                first = small.narrow(dim, 0, 1)
                small = first.masked_fill(~(small == first).all(dim, keepdim=True), NAN)
        return small.expand(labels.shape)
    if isinstance(labels, (tuple, list)):
        return type(labels)(_normal(a, b, labelling, dtype) for a, b in zip(labels, result, strict=True))
    return result
