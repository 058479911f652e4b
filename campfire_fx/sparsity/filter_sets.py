"""Sets of filters: the filters of a layer in sets of equal size, by what they need of the input."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from campfire_fx.sparsity.selection import DEAD, lowest

_ROUNDS = 50
"""More than it takes until no filter changes its set; what is gained by then is next to nothing."""


def number_of_sets(filters: int, groups: int) -> int:
    """Return the largest number of sets, up to `groups`, into which so many filters divide."""
    return next(count for count in range(min(groups, filters), 0, -1) if filters % count == 0)


def filter_sets(needs: Tensor, alive: Tensor, count: int, inputs: int) -> Tensor:
    """Divide filters into sets of equal size so that much of what they need stays when a set keeps `inputs` of them.

    Filters that already read different inputs stay apart, and sets whose inputs are still the same are divided anew.
    So sets follow from the mask alone: nothing else has to be remembered, and sets that differ stay as they are.

    Args:
        needs: (K, C) float64, not negative: how much each filter makes of each input.
        alive: (K, C) bool, which inputs it still reads.
        count: the number of sets; K is a multiple of it.
        inputs: how many inputs of its own each set will keep.

    Returns:
        (K,) int64, the set of each filter, in [0, count).
    """
    filters = len(needs)
    size = filters // count
    _, kind, sizes = alive.unique(dim=0, return_inverse=True, return_counts=True)
    if bool((sizes % size).any()):  # whatever made this mask, it was not sets of this size
        kind, sizes = torch.zeros_like(kind), torch.tensor([filters])
    found, done = torch.empty(filters, dtype=torch.int64), 0
    for number, members in enumerate(sizes.tolist()):
        same = (kind == number).nonzero().flatten()
        found[same] = done + divide(needs[same], alive[same], members // size, inputs)
        done += members // size
    return found


def set_needs(needs: Tensor, alive: Tensor, sets: Tensor, count: int) -> Tensor:
    """Return how much the filters of each set make of each input together, (count, C); DEAD where none reads it."""
    read = torch.zeros(count, needs.shape[1]).index_add(0, sets, alive.float()) > 0
    return needs.new_zeros(read.shape).index_add(0, sets, needs).masked_fill(~read, DEAD)


def divide(needs: Tensor, alive: Tensor, count: int, inputs: int) -> Tensor:
    """Divide filters into `count` sets of equal size: see `filter_sets`.

    Sets and their inputs are improved in turns, from the inputs of single filters on that differ much (`_first`). For
    every two sets, those filters go to the first that gain most by reading its inputs and not the other's; then each
    set takes the inputs that its filters need most together. No step makes less of `needs` stay, so it ends. Of equal
    filters the first go to the first set.
    """
    size = len(needs) // count
    sets = torch.arange(len(needs)) // size
    kept = _first(needs, alive, count, inputs)
    for _ in range(_ROUNDS if count > 1 else 0):
        worth = needs @ kept.to(needs).t()
        before = sets.clone()
        for one, other in combinations(range(count), 2):
            both = ((sets == one) | (sets == other)).nonzero().flatten()
            gain = worth[both, one] - worth[both, other]
            order = both[gain.argsort(dim=0, descending=True, stable=True)]
            sets[order[:size]], sets[order[size:]] = one, other
        chosen = _most_needed(set_needs(needs, alive, sets, count), inputs)
        if torch.equal(sets, before) and torch.equal(chosen, kept):
            break
        kept = chosen
    return sets


def _first(needs: Tensor, alive: Tensor, count: int, inputs: int) -> Tensor:
    """Return the inputs that sets begin with, (count, C): of the filter that keeps most, then of the others in turn.

    Each further one is the filter that would lose most by reading the inputs of any of those before.
    """
    own = _most_needed(needs.masked_fill(~alive, DEAD), inputs)
    best = (needs * own).sum(1)
    chosen = own[best.argmax()].unsqueeze(0)
    while len(chosen) < count:
        lost = best - (needs @ chosen.to(needs).t()).amax(1)
        chosen = torch.cat([chosen, own[lost.argmax()].unsqueeze(0)])
    return chosen


def _most_needed(needs: Tensor, inputs: int) -> Tensor:
    """Mark the inputs that each row needs most, so many of them."""
    return ~lowest(needs, needs.shape[1] - inputs)
