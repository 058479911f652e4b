"""Scores of coupled groups: how much a channel matters, from weights, norms, or gradients.

Each gives one number for each group, 0 or more. Filters are what writes a group's channels; readers are the layers
that mix them with others (a depthwise convolution only passes them on).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.chance import agreed_generator
from campfire_fx.sparsity.channels.coupling import Alive, CoupledLayer, Coupling, Floats, lives, summed

LAST = 1e30  # above every score, and still a number


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What scores are made of.

    Attributes:
        coupling: the groups.
        weights: of each masked layer by path, (K, C / G, P), in float32 or float64.
        scales: (weight, bias) of each norm by path, each (C,) or None.
        biases: of each masked layer that has one, (K,).
        alive: which groups live: dead ones count in no mean, and their scores mean nothing.
        gathered: what a score from data has gathered, (groups,); None: nothing.
    """

    coupling: Coupling
    weights: Mapping[str, Tensor]
    scales: Mapping[str, tuple[Tensor | None, Tensor | None]]
    biases: Mapping[str, Tensor]
    alive: Alive
    gathered: Floats | None = None

    @property
    def layers(self) -> list[CoupledLayer]:
        """The layers whose weights are known."""
        return [layer for layer in self.coupling.layers if layer.path in self.weights]

    def of_filters(self, measure: Callable[[Tensor], Tensor]) -> Floats:
        """Sum over a group's filters; `measure`: from the living ones, (K, members), to (K,)."""
        total = np.zeros(self.coupling.groups)
        for layer in self.layers:
            rows = lives(layer.outputs, self.alive)
            filters = self.weights[layer.path].flatten(1)
            measured = _numbers(measure(filters if rows.all() else filters[torch.from_numpy(rows).to(filters.device)]))
            total += summed(measured, layer.outputs[rows], total.size)
        return total

    def of_readers(self, measure: Callable[[Tensor], Tensor]) -> Floats:
        """Sum over a group's readers; `measure`: from (G, K / G, C / G, P) to (G, C / G)."""
        total = np.zeros(self.coupling.groups)
        for layer in (layer for layer in self.layers if not layer.goes_whole):
            values = _numbers(measure(self.weights[layer.path].unflatten(0, (layer.groups, -1))))
            total += summed(values, layer.inputs, total.size)
        return total

    def of_norms(self, measure: Callable[[Tensor, Tensor], Tensor], instead: Floats) -> Floats:
        """Sum over the norms on a group's way; `measure`: of (weight, bias). Without a norm, take `instead`."""
        total, normed = np.zeros(self.coupling.groups), np.zeros(self.coupling.groups)
        for vector in self.coupling.vectors:
            if not vector.norm or not vector.name.endswith(".weight") or vector.norm not in self.scales:
                continue
            weight, bias = self.scales[vector.norm]
            if weight is not None:
                values = _numbers(measure(weight, torch.zeros_like(weight) if bias is None else bias))
                total += summed(values, vector.groups, total.size)
                normed += summed(np.ones_like(values), vector.groups, total.size)
        return np.where(normed > 0, total, instead)


def _numbers(values: Tensor) -> Floats:
    return values.detach().double().cpu().numpy()


def flow(evidence: Evidence) -> Floats:
    """Score by what flows through a channel: how strongly it is written, times how strongly it is read.

    [sum over its norms of weight^2 + bias^2] * [sum over its readers r of ||W_r[:, c]||^2 / ||W_r||^2]. Without a
    norm the first factor is ||W_k||^2 + bias^2 of its filters: the variance that inputs of variance 1 give it.
    """
    unread = evidence.of_readers(lambda weight: torch.ones_like(weight[:, 0, :, 0])) == 0
    read = evidence.of_readers(_share_read)
    return _written(evidence) * np.where(unread, 1.0, read)


def _share_read(weight: Tensor) -> Tensor:
    squares = weight.square().sum((1, 3))
    return squares / squares.sum().clamp_min(1e-30)


def _written(evidence: Evidence) -> Floats:
    squares = evidence.of_filters(lambda filters: filters.square().sum(1))
    for layer in (layer for layer in evidence.layers if layer.path in evidence.biases):
        squares += summed(_numbers(evidence.biases[layer.path].square()), layer.outputs, squares.size)
    return evidence.of_norms(lambda weight, bias: weight.square() + bias.square(), squares)


def l1(evidence: Evidence) -> Floats:
    """Score by the L1 norm of a group's filters (Li et al. 2017), summed over filters."""
    return evidence.of_filters(lambda filters: filters.abs().sum(1))


def l2(evidence: Evidence) -> Floats:
    """Score by the L2 norm of a group's filters, summed over filters."""
    return evidence.of_filters(lambda filters: filters.square().sum(1).sqrt())


def norm_scale(evidence: Evidence) -> Floats:
    """Score by |weight| of a group's norms (Network Slimming, Liu et al. 2017), summed; without a norm as `l2`."""
    return evidence.of_norms(lambda weight, _: weight.abs(), l2(evidence))


def mean_scale(evidence: Evidence) -> Floats:
    """Score by the mean |weight| of a group's norms, as it is in every set; groups without a norm die last of all."""
    count = evidence.of_norms(lambda weight, _: torch.ones_like(weight), np.ones(evidence.coupling.groups))
    none = np.full(evidence.coupling.groups, LAST)
    return evidence.of_norms(lambda weight, _: weight.abs(), none) / count


def largest(evidence: Evidence) -> Floats:
    """Score by the largest |weight| of a group's filters and of its input channels (PruneTrain, Lym et al. 2019)."""
    found = np.zeros(evidence.coupling.groups + 1)  # the last one takes what is in no group
    for layer in evidence.layers:
        weight = evidence.weights[layer.path].abs()
        np.maximum.at(found, layer.outputs, _numbers(weight.flatten(1).amax(1)))
        if not layer.goes_whole:
            np.maximum.at(found, layer.inputs, _numbers(weight.unflatten(0, (layer.groups, -1)).amax((1, 3))))
    return found[:-1]


def fpgm(evidence: Evidence) -> Floats:
    """Score a filter by its mean distance to the others of its layer (FPGM, He et al. 2019), summed over filters.

    Distances are counted in root mean squares of the filters' norms: layers with large weights do not win.
    """

    def distance(filters: Tensor) -> Tensor:
        return torch.cdist(filters, filters).mean(1) / filters.square().sum(1).mean().sqrt().clamp_min(1e-30)

    return evidence.of_filters(distance)


def taylor(evidence: Evidence) -> Floats:
    """Score by the first-order estimate of what the loss changes by when a channel goes (Molchanov et al. 2019).

    (sum over its readers of <W_r[:, c], dL/dW_r[:, c]>)^2, a moving average over steps: the derivative by a gate that
    all readers see. Needs gradients. The other scores from data are gathered likewise: see gathering.py.
    """
    return gathered(evidence, "taylor")


def gathered(evidence: Evidence, name: str) -> Floats:
    """Return what was gathered for a score; a group that nothing was seen of goes last.

    Raises:
        RegimeError: nothing was gathered.
    """
    if evidence.gathered is None:
        first = "" if name not in OF_STEPS else " Train some steps with the optimizer attached, or"
        kind = "what layers are given" if not first else "gradients"
        raise RegimeError(
            f"score '{name}': it is made of {kind}, and there have been none.{first or ' First'} "
            f"call gather(loss_fn, loader){' first' if first else ''}; 'flow' needs no data."
        )
    return np.where(np.isnan(evidence.gathered), LAST, evidence.gathered)


OF_STEPS = ("taylor", "obd")
"""Scores that are gathered from gradients, of training steps too."""
OF_BATCHES = ("activation", "nonzeros", "rank", "entropy")
"""Scores that are gathered from what layers are given, in `gather`."""


def at_random(evidence: Evidence) -> Floats:
    """Score by chance, repeatable by `torch.manual_seed`: the baseline."""
    return torch.rand(evidence.coupling.groups, generator=agreed_generator(), dtype=torch.float64).numpy()


@dataclass(frozen=True, slots=True)
class ChannelScore:
    """A score of coupled groups.

    Attributes:
        name: what users and checkpoints call it.
        of: from the evidence to (groups,).
        comparable: its numbers mean the same in every set, so that a global ranking takes them as they are; else each
            set's are divided by their mean.
        from_data: it is gathered from gradients, or from what layers are given.
    """

    name: str
    of: Callable[[Evidence], Floats]
    comparable: bool = False
    from_data: bool = False


SCORES = {
    score.name: score
    for score in (
        ChannelScore("flow", flow, comparable=True),
        ChannelScore("l1", l1),
        ChannelScore("l2", l2),
        ChannelScore("norm_scale", norm_scale),
        ChannelScore("mean_scale", mean_scale, comparable=True),
        ChannelScore("largest", largest, comparable=True),
        ChannelScore("fpgm", fpgm),
        ChannelScore("taylor", taylor, comparable=True, from_data=True),
        ChannelScore("obd", partial(gathered, name="obd"), comparable=True, from_data=True),
        *(ChannelScore(name, partial(gathered, name=name), from_data=True) for name in OF_BATCHES),
        ChannelScore("at_random", at_random),
    )
}


def normalised(scores: Floats, coupling: Coupling, alive: Alive) -> Floats:
    """Divide the scores of each set by the mean of its living groups: else sets of large weights always win."""
    totals = summed(scores * alive, coupling.set_of, len(coupling.sets))
    means = totals / np.maximum(1, coupling.widths(alive))
    return scores / np.maximum(means, 1e-300)[coupling.set_of]
