"""SWAT, sparse weight activation training (arXiv 2001.01969): dense weights, sparse everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.sparsity.budget import ERK, Budget, ByMomentum
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT, KERNEL
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Throughout
from campfire_fx.sparsity.score import l1, largest
from campfire_fx.sparsity.topk import TopK

PERIOD = 10

WEIGHTS = TopK(ELEMENT, largest)
EXACT = TopK(ELEMENT, largest, reuse=False)
KERNELS = TopK(KERNEL, l1, reuse=False)


@dataclass(frozen=True, slots=True)
class DenseWeights(Method):
    """Weights under the mask get gradients, are stepped and can come back; the mask is chosen anew all the time.

    Sparse are the weight that forward and backward pass compute with, and what the weight gradient sees of the
    input (SWAT, Algorithm 1). After every step the mask is what reaches the threshold; thresholds are computed
    every `period` steps, those of a rule without `reuse` after every step. `finalize` ends it: each layer is pruned
    once to its sparsity, to the weight.

    Attributes:
        period: steps of the optimizer between two computations of a threshold.
        inputs: whether the weight gradient sees only the largest part of the input, as sparse as the weight.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """

    name = "dense-weights"
    trains_masked = True
    weights_return = True
    period: int = PERIOD
    inputs: bool = True

    def __post_init__(self) -> None:
        plain_fields(self)
        if type(self.period) is not int or self.period < 1:
            raise RegimeError(
                f"period: {self.period!r} is no number of steps. Give a whole number from 1 up; SWAT has 10 or 20 on "
                "CIFAR, and 1001 at a batch of 256 on ImageNet."
            )

    @property
    def packs_inputs(self) -> bool:
        """See `Method`."""
        return self.inputs

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Let layers train dense that still move, and no others: see `Method`."""
        for layer in layers:
            if layer.moves:
                layer.train_dense(1 - layer.due if self.inputs else None, refresh=self._on_time(now))
            else:
                layer.train_masked()

    def loaded(self, layers: Sequence[PrunedLayer], now: Clock, *, dense: bool) -> None:
        """Draw the masks of weights that were loaded: see `Method`."""
        del dense
        if any(layer.state.reached is not None for layer in layers):
            self._refresh(layers, now, anew=now.updates == 0)

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Draw all masks at their thresholds: see `Method`."""
        moving = [layer for layer in layers if layer.moves]
        _redistribute([layer for layer in moving if isinstance(layer.state.assignment.budget, ByMomentum)])
        self.begin(layers, now)
        self._refresh(moving, now)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Draw the first masks: see `Method`."""
        self.begin(layers, now)
        self._refresh(layers, now)

    def finish(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Prune every layer once, to the weight, and make it an ordinary masked one: see `Method`."""
        for layer in layers:
            if layer.trains_dense:
                layer.move(before=torch.ones_like(layer.mask))
        self.begin(layers, now)

    def _on_time(self, now: Clock) -> bool:
        return now.updates % self.period == 0

    def _refresh(self, layers: Sequence[PrunedLayer], now: Clock, *, anew: bool = False) -> None:
        """Draw masks at their thresholds, which are computed first where that is due, or `anew`."""
        for layer in layers:
            if not layer.moves:
                continue
            due = anew or self._on_time(now) or layer.state.reached is None
            if due:
                layer.state.reached = layer.due
            rule = layer.rule
            if isinstance(rule, TopK):
                weight = layer.module.as_filters(layer.weight)
                if due or not rule.reuse:
                    layer.threshold.copy_(rule.threshold(weight, layer.due))
                layer.set_mask(layer.module.from_filters(rule.above(weight, layer.threshold)))
            elif due:
                layer.move(before=torch.ones_like(layer.mask))


def _redistribute(layers: Sequence[PrunedLayer]) -> None:
    """Divide the weights among the layers of a budget by momentum, from the optimizers' present state.

    Raises:
        RegimeError: no optimizer has a momentum of a layer.
    """
    if not layers:
        return
    budget = layers[0].state.assignment.budget
    means = torch.stack([_momentum(layer) for layer in layers]).tolist()
    if not sum(means) > 0 or not isinstance(budget, ByMomentum):
        return
    parts = budget.redistribute(means, [layer.mask.numel() for layer in layers], layers[0].total)
    for layer, sparsity in zip(layers, parts, strict=True):
        layer.state.assignment = replace(layer.state.assignment, sparsity=sparsity)


def _momentum(layer: PrunedLayer) -> Tensor:
    """Return the mean magnitude of momentum over the weights in use, () float64."""
    momentum = layer.momentum
    if momentum is None:
        raise RegimeError(
            f"swat-m at {layer.state.assignment.name}: no attached optimizer has a momentum for it. "
            "Attach an SGD with momentum, an Adam or an AdamW that holds all weights."
        )
    return momentum.abs().masked_fill(~layer.mask, 0).double().sum() / layer.mask.sum()


def swat_u(period: int = PERIOD) -> Regime:
    """Make every layer as sparse as asked, weights and activations; the stem stays dense.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-u", WEIGHTS, period)


def swat_erk(period: int = PERIOD) -> Regime:
    """Divide the sparsity by Erdos-Renyi-Kernel: large layers become sparser. The stem takes part.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-erk", WEIGHTS, period, ERK())


def swat_m(period: int = PERIOD) -> Regime:
    """Divide the sparsity by momentum after every step; needs an attached optimizer that has some. The stem takes part.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-m", WEIGHTS, period, ByMomentum())


def swat_structured(period: int = PERIOD) -> Regime:
    """Keep whole kernels, those of largest L1 norm; the paper calls them channels. Activations stay unstructured.

    Raises:
        RegimeError: the period is not a whole number from 1 up.
    """
    return _swat("swat-structured", KERNELS, period)


def _swat(name: str, convolutions: TopK, period: int, budget: Budget | None = None) -> Regime:
    return Regime(
        name,
        spatial=convolutions,
        pointwise=convolutions,
        linear=EXACT,
        schedule=Throughout,
        update=DenseWeights(period),
        budget=budget,
        stem=budget is not None,
    )


_PAPER = "Raihan and Aamodt 2020, arXiv 2001.01969"

ENTRIES = (
    RegimeEntry(
        name="swat-u",
        make=swat_u,
        does="computes with the largest weights of each layer, chosen again periodically; all weights train",
        family="swat",
        granularity="weight",
        gains="weights",
        source=f"{_PAPER}, SWAT-U",
    ),
    RegimeEntry(
        name="swat-erk",
        make=swat_erk,
        does="as `swat-u`, with layer sparsities by Erdos-Renyi-Kernel: large layers are sparser",
        family="swat",
        granularity="weight",
        gains="weights",
        source=f"{_PAPER}, SWAT-ERK",
    ),
    RegimeEntry(
        name="swat-m",
        make=swat_m,
        does="as `swat-u`, with layer sparsities by momentum: layers with small momentum are sparser",
        family="swat",
        granularity="weight",
        gains="weights",
        source=f"{_PAPER}, SWAT-M",
        needs=("momentum",),
    ),
    RegimeEntry(
        name="swat-structured",
        make=swat_structured,
        does="as `swat-u`, by whole kernels: those with the largest L1 norm, chosen again after every step",
        family="swat",
        granularity="kernel",
        gains="kernels",
        source=f"{_PAPER}, structured",
    ),
)
