"""Channels by reconstruction: those go without which the layers that read them can be made to answer most alike.

What channel c brings to an output of a reader is x_c = sum over taps of W[k, c] * input; the output is their sum. All
that is needed of the data is the Gram matrix of the x_c over outputs at sampled places: G[c, d] = sum of x_c * x_d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.sharding import local, part_of
from campfire_fx.sparsity.channels.coupling import Alive, CoupledLayer, Coupling, Floats
from campfire_fx.sparsity.gram_channels import GramChannels, columns_of
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.slices import inputs_of

_PLACES = 10  # of outputs that are looked at in a batch
_STEPS, _SWEEPS = 60, 200  # of the lasso's path, and of coordinate descent for each of its strengths


def _patches(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what outputs at sampled places are made of, (rows, C, P)."""
    if not isinstance(module, nn.Conv2d):
        return inputs.reshape(-1, inputs.shape[-1], 1)
    up, left = map(int, module.padding)
    inputs = F.pad(inputs, (left, left, up, up))
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    high, wide = ((n - r) // s + 1 for n, r, s in zip(inputs.shape[2:], reach, module.stride, strict=True))
    drawn = torch.randperm(high * wide)[:_PLACES].tolist()
    corners = [(place // wide * module.stride[0], place % wide * module.stride[1]) for place in drawn]
    found = [
        inputs[:, :, i : i + reach[0] : module.dilation[0], j : j + reach[1] : module.dilation[1]].flatten(2)
        for i, j in corners
    ]
    return torch.cat(found)


def greedily(total: Floats) -> Floats:
    """Rank by removal, one after the other: next goes what leaves the smallest sum of squares gone (ThiNet, Alg. 1)."""
    scores, gone, costs = np.zeros(len(total)), np.zeros(len(total)), np.diag(total).copy()
    for place in range(len(total)):
        after = np.where(scores > 0, np.inf, costs + 2 * gone)
        weakest = int(after.argmin())
        scores[weakest] = place + 1
        gone += total[weakest]
    return scores


def by_lasso(total: Floats) -> Floats:
    """Rank by when a channel enters the lasso's path: min over b of b'Gb / 2 - b'G1 + strength * |b|_1.

    The higher the strength at which its factor is not zero any more, the better; of the same, the larger factor.
    """
    wanted, sizes = total.sum(1), np.diag(total)
    factors, scores = np.zeros(len(total)), np.zeros(len(total))
    strengths = np.abs(wanted).max() * np.geomspace(1, 1e-4, _STEPS)[1:]
    for left, strength in zip(range(_STEPS, 0, -1), strengths, strict=False):
        descend(total, wanted, sizes, factors, float(strength))
        entered = (factors != 0) & (scores == 0)
        scores[entered] = left + np.abs(factors[entered]) / (1 + np.abs(factors[entered]))
    return scores


def descend(total: Floats, wanted: Floats, sizes: Floats, factors: Floats, strength: float) -> None:
    """Solve for the factors in place, by coordinate descent from those that there are."""
    for _ in range(_SWEEPS):
        before = factors.copy()
        for c in np.flatnonzero(sizes > 0):
            rest = wanted[c] - total[c] @ factors + sizes[c] * factors[c]
            factors[c] = np.sign(rest) * max(0.0, abs(rest) - strength) / sizes[c]
        if np.abs(factors - before).max() <= 1e-9:
            return


@dataclass(frozen=True, slots=True)
class Reconstructing(GramChannels):
    """Channels go by reconstruction; what is left of their readers is scaled to make up for them, by least squares."""

    name = "reconstruction"
    orders = {"greedy": greedily, "lasso": by_lasso}  # noqa: RUF012 - see the base
    order: str = "greedy"

    def reads(self, layer: PrunedLayer, coupled: CoupledLayer) -> bool:
        """Return whether a layer mixes channels in a way that is understood here: 2-D convolutions, and linear ones."""
        module = layer.module
        plain = isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return (plain or isinstance(module, nn.Linear)) and GramChannels.reads(self, layer, coupled)

    def gram(self, layer: PrunedLayer, coupled: CoupledLayer, inputs: Tensor) -> Tensor:
        """See the base: of what groups bring to outputs at sampled places; the last row is of channels in no group."""
        weight = layer.module.as_filters(layer.weight).double()
        weight = weight.unflatten(0, (coupled.groups, -1))  # (G, K / G, C / G, P)
        patches = _patches(layer.module, inputs.double()).unflatten(1, (coupled.groups, -1))  # (rows, G, C / G, P)
        columns = torch.from_numpy(columns_of(coupled)).to(weight.device)
        count = int(columns.max()) + 1
        total = weight.new_zeros(count + 1, count + 1)
        for filters, seen, places in zip(weight, patches.unbind(1), columns.chunk(coupled.groups), strict=True):
            brought = torch.einsum("rcp,kcp->rkc", seen, filters).flatten(0, 1)
            by_group = brought.new_zeros(len(brought), count + 1).index_add_(1, places % (count + 1), brought)
            total += by_group.T @ by_group
        return total

    def after(self, layer: PrunedLayer, coupled: CoupledLayer, coupling: Coupling, whole: Floats, alive: Alive) -> None:
        """Scale the input channels that are left by least squares: min over f of the squares of y - sum of f_c * x_c.

        Channels in no group keep their factor of 1.
        """
        numbers = np.unique(coupled.inputs[coupled.inputs >= 0])
        left = alive[numbers]
        if left.all() or not left.any() or layer.state.by_hand or not layer.module.weight.requires_grad:
            return
        inside = np.flatnonzero(left)
        wanted = whole[inside].sum(1) - whole[inside, -1]
        factors, *_ = np.linalg.lstsq(whole[np.ix_(inside, inside)], wanted, rcond=1e-10)
        of_group = np.ones(coupling.groups + 1)
        of_group[numbers[inside]] = factors
        one, weight = inputs_of(layer, coupled, coupling), layer.module.weight
        assert one.groups is not None
        values = torch.from_numpy(of_group).to(weight.device, weight.dtype)[one.groups]
        local(weight.detach()).mul_(part_of(one.spread(values), weight))
