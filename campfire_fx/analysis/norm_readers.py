"""Who reads the channels of a norm, and how: which of them are needed, and which can be made of others.

Behind a norm a channel that came in with a constant c is (c - mean) / sd * weight + bias. It depends on the input, but
all such channels are sums of two of them and a number; a layer that mixes channels can read those two in their place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.labels import Labelled, lines
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.rules import Held, Kind
from campfire_fx.analysis.rules.kinds import POSITION_WISE
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes, parts
from campfire_fx.analysis.rules.structure import MixCall

_FAR = 8.0  # a channel made of two others by factors larger than this would magnify rounding
_OTHER = -1.0


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """A layer that reads the channels; `index`: per input of it, which channel of the norm that is, or -1."""

    reader: Reader
    call: MixCall
    index: Tensor


@dataclass(slots=True, eq=False)
class Readers:
    """All that reads a norm's channels.

    Attributes:
        read: which channels anything alive reads, bool (C,).
        mixes: the layers that mix them.
        linear: nothing else reads them, and nothing but movement lies between.
    """

    read: Tensor
    mixes: list[Mix] = field(default_factory=list)
    linear: bool = True

    def can_take_others(self, bias: Tensor) -> bool:
        """Whether every reader can take other channels, and a bias, in the place of some; `bias`: of the norm."""
        return self.linear and bool(self.mixes) and all(_is_own(mix, bias) for mix in self.mixes)


def find_readers(run: GraphRun, node: fx.Node, dim: int, by_node: dict[Any, Reader], live: Liveness) -> Readers:
    """Follow the channels of a norm, along `dim`, to all that reads them: numbers of channels, moved as they are."""
    shape = run.values[node].shape
    size = [1] * len(shape)
    size[dim] = shape[dim]
    places: dict[fx.Node, Any] = {node: torch.arange(shape[dim], dtype=torch.float64).view(size).expand(shape)}
    found = Readers(torch.zeros(shape[dim], dtype=torch.bool))
    started = False
    for user in run.graph.nodes:
        sources = [source for source in user.all_input_nodes if source in places] if started else []
        started = started or user is node
        if not sources:
            continue
        reader = by_node.get((run.number, user))
        if reader is not None and len(sources) == 1:
            _enter(found, user, reader, places, live)
            continue
        moved = None if user.op == "output" or reader is not None else _moved(run, user, sources, places, found)
        if moved is None:
            found.linear = False
            for source in sources:
                found.read |= _contained(places[source], found.read)
        else:
            places[user] = moved
    return found


def _enter(found: Readers, user: fx.Node, reader: Reader, places: dict[fx.Node, Any], live: Liveness) -> None:
    call = next(call for call in reader.mixer.calls if call.node is user)
    along = lines(places[call.source], call.channel_dim) if call.source in places else None
    if along is None or not bool((along == along[:, :1]).all()):
        found.linear = False
        found.read[:] = True
        return
    index = along[:, 0].long()
    used = reader.read_by_live(live.alive).flatten()
    found.read[index[used & (index >= 0)]] = True
    found.mixes.append(Mix(reader, call, index))


def _moved(
    run: GraphRun, user: fx.Node, sources: list[fx.Node], places: dict[fx.Node, Any], found: Readers
) -> Any | None:
    """Return where the channels are behind a call; None where it does something else with them."""
    rule, module = run.rule(user), run.submodule(user)
    if rule.kind is Kind.ASK:
        return ()
    joins = rule.kind is Kind.CONCATENATE and _holds_plain(run, user)
    if rule.movement and rule.kind is not Kind.PAD and not joins:
        try:
            args, kwargs = map_nodes((user.args, dict(user.kwargs)), lambda n: _place(run, n, places))
            return invoke(user, module, tuple(args), dict(kwargs))
        except Exception:  # noqa: BLE001  what cannot be followed counts as read
            return None
    activations = [n for n in user.all_input_nodes if isinstance(run.values[n], Labelled)]
    value = run.values[user]
    if rule.kind in POSITION_WISE and activations == sources and isinstance(value, Labelled):
        place = places[sources[0]]
        if isinstance(place, Tensor) and place.shape == value.shape:
            found.linear &= rule.kind in (Kind.CAST, Kind.DROP)
            return place
    return None


def _holds_plain(run: GraphRun, node: fx.Node) -> bool:
    """Whether a node takes a tensor that depends on no input: its numbers are no places."""
    return any(isinstance(run.values[source], Tensor) for source in node.all_input_nodes)


def _place(run: GraphRun, node: fx.Node, places: dict[fx.Node, Any]) -> Any:
    if node in places:
        return places[node]
    value = run.values[node]
    other = torch.full((), _OTHER, dtype=torch.float64)
    return map_nested(value, lambda v: other.expand(v.shape) if isinstance(v, (Labelled, Held)) else v)


def _contained(place: Any, like: Tensor) -> Tensor:
    marked = torch.zeros_like(like)
    for tensor in parts(place, Tensor):
        index = tensor.unique().long()
        marked[index[index >= 0]] = True
    return marked


def _is_own(mix: Mix, bias: Tensor) -> bool:
    """Whether a reader is a layer of one group that is called once, and reads a shift as the same number everywhere."""
    mixer, module = mix.reader.mixer, mix.call.module
    if module is None or len(mixer.calls) > 1 or mixer.layout.groups > 1:
        return False
    return not mix.call.padded or not bool(bias.any())


def representatives(constant: Tensor, scale: Tensor, movable: Tensor) -> Tensor | None:
    """Choose the channels that the others are made of, among those that are `movable`: none, one or two of them.

    Args:
        constant: what each channel brings into the norm, (C,).
        scale: of the norm, (C,).
        movable: which channels may be made of others, bool (C,).

    Returns:
        Their places, or None where rounding would be magnified.
    """
    large = movable & (scale.abs() > 0) & (scale.abs() >= 0.1 * scale[movable].abs().max())
    places = large.nonzero().flatten()
    if not places.numel():
        return places
    values = constant[places]
    low, high = places[values.argmin()], places[values.argmax()]
    scaled = movable & (scale != 0)
    if bool((constant[scaled] == constant[low]).all()):
        return places[scale[places].abs().argmax()].view(1)
    if constant[low] == constant[high]:
        return None
    share = _share(constant[scaled], constant[low], constant[high])
    return torch.stack([low, high]) if bool((share.abs() <= _FAR).all()) else None


def _share(constant: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (constant - low) / (high - low)


@dataclass(frozen=True, slots=True, eq=False)
class Substitution:
    """Channels j = `gone` as sums of channels r = `kept`: y_j = sum_r factors[j, r] y_r + shifts[j]."""

    gone: Tensor
    kept: Tensor
    factors: Tensor
    shifts: Tensor


def substitution(constant: Tensor, scale: Tensor, bias: Tensor, gone: Tensor, kept: Tensor) -> Substitution:
    """Say what the channels that go are in terms of those kept for them, all float64.

    With v = (y - bias) / scale: v_j = v_r where the constants are equal, else v_j = (1 - t) v_low + t v_high with
    t = (c_j - c_low) / (c_high - c_low).
    """
    if not kept.numel():  # the scale of each is zero
        return Substitution(gone, kept, scale.new_zeros(gone.numel(), 0), bias[gone])
    shares = torch.ones(gone.numel(), 1, dtype=constant.dtype)
    if kept.numel() == 2:
        high = _share(constant[gone], *constant[kept])
        shares = torch.stack([1 - high, high], 1)
    factors = shares * scale[gone, None] / scale[kept]
    return Substitution(gone, kept, factors, bias[gone] - factors @ bias[kept])


def substitute(mix: Mix, change: Substitution) -> None:
    """Let a layer read the channels kept in the place of those that go, in place: new parameters, the same output."""
    mixer, module = mix.reader.mixer, mix.call.module
    assert module is not None
    old: Any = module.weight  # another norm may have changed it
    kernels = mixer.layout.kernels(old.detach()).double().clone()  # (1, K, C, taps)
    shift = kernels.new_zeros(kernels.shape[1])
    for place, channel in enumerate(change.gone.tolist()):
        for column in (mix.index == channel).nonzero().flatten().tolist():
            moved = kernels[0, :, column].clone()
            same = _beside(mix.index, column, channel, change.kept)
            for number, target in enumerate(same):
                kernels[0, :, target] += change.factors[place, number] * moved
            shift += change.shifts[place] * moved.sum(-1)
            kernels[0, :, column] = 0
    weight = mixer.layout.weight(kernels, old).to(old)
    module.register_parameter("weight", nn.Parameter(weight, requires_grad=old.requires_grad))
    bias = getattr(module, "bias", None)
    if bool(shift.any()):
        total = shift if bias is None else shift + bias.detach().double()
        trained = old.requires_grad if bias is None else bias.requires_grad
        module.register_parameter("bias", nn.Parameter(total.to(old), requires_grad=trained))


def _beside(index: Tensor, column: int, channel: int, kept: Tensor) -> list[int]:
    """Return the inputs that the channels kept are, where `channel` is input `column`.

    A channel that was flattened with its image is several inputs: the n-th of one belongs to the n-th of another.
    """
    turn = int((index[:column] == channel).sum())
    return [int((index == int(other)).nonzero()[turn]) for other in kept]
