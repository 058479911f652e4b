"""Masks chosen over several layers together: a layer that matters less loses more (global pruning)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from campfire_fx.sparsity.layer import PrunedLayer, Update, monotone
from campfire_fx.sparsity.scope import OverLayers
from campfire_fx.sparsity.selection import DEAD, PROTECTED, ROUNDING, Cut, Rule, guarded, lowest_of_all, rank

_LESS_THAN_A_WEIGHT = 1e-6  # 0.29 of 100 is 29, and not the 28.999999999999996 that floats make of it


class Ranked(NamedTuple):
    """One of several layers that are ranked together: a cut whose scope is `OverLayers`, weight and mask (K, C, P)."""

    cut: Cut
    weight: Tensor
    mask: Tensor


def scope_over_layers(rule: Rule | None) -> OverLayers | None:
    """Return the scope of a rule if it is one over layers."""
    return rule.scope if isinstance(rule, Cut) and isinstance(rule.scope, OverLayers) else None


def move(layers: Sequence[PrunedLayer], update: Update = monotone) -> None:
    """Move the masks of those layers that are due more sparsity than theirs were chosen for.

    Layers whose rules rank over layers are ranked together where they have one scope, and are asked for the same
    sparsity on the same schedule. All processes of a run find the same masks.
    """
    together: dict[object, list[PrunedLayer]] = {}
    for layer in layers:
        if not layer.rises:
            continue
        if (scope := scope_over_layers(layer.rule)) is None:
            layer.move(update)
        else:
            asked = layer.state.assignment
            together.setdefault((scope, asked.sparsity, asked.schedule), []).append(layer)
    for pool in together.values():
        masks = [layer.module.as_filters(layer.mask) for layer in pool]
        ranked = [Ranked(as_cut(layer.rule), layer.filters, mask) for layer, mask in zip(pool, masks, strict=True)]
        for layer, mask, proposal in zip(pool, masks, cut_together(ranked, pool[0].due), strict=True):
            layer.take_up(update(mask, proposal))


def as_cut(rule: Rule) -> Cut:
    """Return a rule that is a cut."""
    assert isinstance(rule, Cut)
    return rule


def cut_together(layers: Sequence[Ranked], sparsity: float) -> list[Tensor]:
    """Propose masks for several layers: the groups that matter least in all of them die.

    Counted are weights, since groups may differ in size: groups die, the lowest first, until `sparsity` of all weights
    are dead, to less than one group. What is dead already dies first; of equal scores the first layer's, and in a layer
    the first. Every layer keeps the share of its groups that its scope says, the best ones, and at least one.

    Args:
        layers: what is ranked; all with the same scope.
        sparsity: of all of them together, in [0, 1).

    Returns:
        (K, C, P) bool each, True = kept.
    """
    scores = [_comparable(layer) for layer in layers]
    sizes = [layer.cut.granularity.sizes(layer.weight).expand_as(s) for layer, s in zip(layers, scores, strict=True)]
    device = scores[0].device  # a model may be spread over several
    flat = torch.cat([each.flatten().double().to(device) for each in scores])
    counts = torch.cat([each.flatten().double().to(device) for each in sizes])
    order = flat.argsort(stable=True)
    dead_before = counts[order].cumsum(0) - counts[order]
    dying = (dead_before < sparsity * float(counts.sum()) - _LESS_THAN_A_WEIGHT) & (flat[order] < PROTECTED)
    dead = torch.empty_like(dying).index_copy_(0, order, dying).split([each.numel() for each in scores])
    return [
        layer.mask & ~layer.cut.granularity.spread(gone.view_as(each).to(each.device), layer.weight.shape)
        for layer, gone, each in zip(layers, dead, scores, strict=True)
    ]


def _comparable(layer: Ranked) -> Tensor:
    """Return the scores of a layer's groups, (a, b, c), as they compare with other layers'; PROTECTED: stays."""
    scope = scope_over_layers(layer.cut)
    assert scope is not None
    scores = rank(layer.weight, layer.mask, layer.cut.granularity, layer.cut.score)
    living = scores > DEAD
    if bool(living.any()):
        scores = scores.double()
        scores[living] = scope.normalise(scores[living]).double()
    if layer.cut.guard:
        scores = guarded(scores)
    stay = max(1, math.ceil(scope.at_least * scores.numel() - ROUNDING))
    return scores.masked_fill(~lowest_of_all(scores, scores.numel() - stay) & (scores > DEAD), PROTECTED)
