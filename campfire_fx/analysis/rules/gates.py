"""Gates: the two ends of a residual branch that may use fewer channels than the stream it hangs on.

In a captured graph a gate is one of the first two functions below, which change nothing. What their labels say does:
a gate's two sides have labels of their own, so that each can lose channels that the other keeps. After the search
the gates become `index_select` and `index_add`, or vanish where both sides kept the same. Zeros among the channels,
which the third puts there, vanish likewise where nothing reads them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from campfire_fx.analysis.labels import Labelled, concatenated
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import Aliases, Kind, Transfer
from campfire_fx.analysis.rules.record import Call, OpRule, register
from campfire_fx.analysis.rules.structure import MixCall, Mixer
from campfire_fx.layers.layout import Layout


def gate_read(stream: Tensor, dim: int) -> Tensor:
    """Return the stream: here a branch starts that may read fewer channels than the stream has along `dim`."""
    return stream


def gate_add(stream: Tensor, branch: Tensor, dim: int) -> Tensor:
    """Return stream + branch: here a branch ends that may write fewer channels than the stream has along `dim`."""
    return stream + branch


def spread(value: Tensor, dim: int, order: list[int]) -> Tensor:
    """Return the channels along `dim` and zeros behind them, as many as `order` is longer, in that order."""
    size = list(value.shape)
    size[dim] = len(order) - size[dim]
    together = torch.cat([value, value.new_zeros(size)], dim)
    return together.index_select(dim, torch.tensor(order, device=value.device))


def read(call: Call, found: Found) -> Labelled:
    """Give the branch labels of its own; each reads the stream's channel of the same place."""
    value, dim = call.args
    inputs = found.channels(value, dim)
    outputs = found.forest.fresh(inputs.numel())
    _gate(call, found, 0, inputs, outputs, dim)
    size = [1] * len(value.shape)
    size[dim] = outputs.numel()
    return Labelled(outputs.view(size).expand(value.shape))


def add(call: Call, found: Found) -> Labelled:
    """Keep the stream's labels; each channel reads the branch's channel of the same place."""
    stream, branch, dim = call.args
    _gate(call, found, 1, found.channels(branch, dim), found.channels(stream, dim), dim)
    return Labelled(found.forest.find(stream.labels))


def spread_labels(call: Call, found: Found) -> Labelled:
    """Keep the labels of the channels; the zeros get labels of their own."""
    value, dim, order = call.args
    labels = found.forest.find(value.labels)
    size = [1] * labels.ndim
    size[dim] = len(order) - labels.shape[dim]
    shape = [*labels.shape[:dim], size[dim], *labels.shape[dim + 1 :]]
    zeros = found.forest.fresh(size[dim]).view(size).expand(shape)
    return found.stretch(concatenated([labels, zeros], dim).index_select(dim, torch.tensor(order)))


def _gate(call: Call, found: Found, operand: int, inputs: Tensor, outputs: Tensor, dim: int) -> None:
    """Enter a gate as a mixer with one group per channel: output i reads input i and nothing else."""
    weight = torch.ones(inputs.numel(), 1)
    name, layout = call.node.name, Layout(0, 1, inputs.numel())
    source: Any = call.node.args[operand]
    use = MixCall(found.structure.graph, call.node, source, dim, False, None, dim)
    mixer = Mixer(name, "gate", weight, layout, inputs, outputs, (use,), virtual=True)
    found.note("mixers", id(weight), mixer)


register(OpRule(Kind.GATE_READ, read, Transfer.EXECUTE, Aliases.SAME), gate_read)
register(OpRule(Kind.GATE_ADD, add, Transfer.EXECUTE), gate_add)
register(OpRule(Kind.SPREAD, spread_labels, Transfer.MAKE), spread)
