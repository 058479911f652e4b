"""Scores from data: what a step's gradients, or what layers are given in a batch, say of each coupled group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from campfire_fx.sparsity.channels.coupling import Coupling
from campfire_fx.sparsity.channels.layers import with_coupling
from campfire_fx.sparsity.layer import PrunedLayer

BINS = 10
"""Of the histograms that entropies are taken of."""


def change_of_loss(layers: Sequence[PrunedLayer], coupling: Coupling, *, squared: bool = False) -> Tensor | None:
    """Return sum over readers of <W_r[:, c], dL/dW_r[:, c]> for each group, (groups,) float64; None: no gradient.

    `squared`: sum over readers and weights of (w * dL/dw)^2.
    """
    total: Tensor | None = None
    for layer, coupled in with_coupling(layers, coupling):
        gradient = layer.gradient
        if gradient is None or coupled.goes_whole:
            continue
        products = layer.module.as_filters(layer.weight * gradient).unflatten(0, (coupled.groups, -1))
        if layer.scale is not None:
            products = products / layer.scale.to(products)
        values = (products.square() if squared else products).sum((1, 3)).flatten().double()
        if total is None:
            total = values.new_zeros(coupling.groups + 1)  # the last one takes what is in no group
        total.index_add_(0, coupled.inputs_on(values.device) % (coupling.groups + 1), values)
    return None if total is None else total[:-1]


def taylor(layers: Sequence[PrunedLayer], coupling: Coupling) -> Tensor | None:
    """Return the square of the first-order change of the loss when each group goes (Molchanov et al. 2019)."""
    change = change_of_loss(layers, coupling)
    return None if change is None else change.square()


def obd(layers: Sequence[PrunedLayer], coupling: Coupling) -> Tensor | None:
    """Return sum of h_i * w_i^2 / 2 over what reads each group (Optimal Brain Damage, LeCun et al. 1989).

    h_i, the diagonal of the Hessian, is the square of the gradient of the batch: the empirical Fisher information.
    """
    squares = change_of_loss(layers, coupling, squared=True)
    return None if squares is None else squares / 2


OF_A_STEP: dict[str, Callable[[Sequence[PrunedLayer], Coupling], Tensor | None]] = {"taylor": taylor, "obd": obd}
"""By the name of the score: from the gradients of a step to (groups,), 0 or more."""


def activation(maps: Tensor) -> Tensor:
    """Return the mean magnitude of each channel."""
    return maps.abs().mean((0, 2, 3))


def nonzeros(maps: Tensor) -> Tensor:
    """Return the share of each channel that is not zero: 1 - APoZ (Hu et al. 2016, arXiv 1607.03250)."""
    return (maps != 0).double().mean((0, 2, 3))


def rank(maps: Tensor) -> Tensor:
    """Return the mean rank of each channel's maps as matrices (HRank, Lin et al. 2020, arXiv 2002.10179)."""
    return torch.linalg.matrix_rank(maps).double().mean(0)


def entropy(maps: Tensor) -> Tensor:
    """Return the entropy of each channel's mean over the images of a batch (Luo and Wu 2017, arXiv 1706.05791).

    -sum of p * ln(p) over a histogram of `BINS` bins between the least and the largest mean of the channel.
    """
    means = maps.mean((2, 3))
    low, high = means.amin(0), means.amax(0)
    places = ((means - low) / (high - low).clamp_min(1e-30) * BINS).long().clamp_(0, BINS - 1)
    counts = torch.zeros(BINS, means.shape[1], dtype=torch.float64, device=maps.device)
    shares = counts.scatter_add_(0, places, torch.ones_like(counts[:1]).expand(places.shape)) / len(means)
    return -(shares * shares.clamp_min(1e-30).log()).sum(0)


OF_A_BATCH: dict[str, Callable[[Tensor], Tensor]] = {
    "activation": activation,
    "nonzeros": nonzeros,
    "rank": rank,
    "entropy": entropy,
}
"""By the name of the score: from what a layer is given, (N, C, H, W), to (C,), 0 or more."""


def as_maps(layer: PrunedLayer, inputs: Tensor) -> Tensor:
    """View what a layer is given as (N, C, H, W) in float32 or more; of a linear layer every row counts as an image."""
    inputs = inputs if inputs.dtype == torch.float64 else inputs.float()
    if isinstance(layer.module, torch.nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1], 1, 1)
    maps = inputs.unsqueeze(2) if inputs.dim() == 3 else inputs
    return maps.flatten(3) if maps.dim() > 3 else maps
