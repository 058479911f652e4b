"""The regimes once more, written from the paper's text alone: loops over lists, exact fractions, no tensors.

A weight is a nested list [filter][channel][position] of magnitudes, a mask one of bools. What is dead already dies
first, and of equal scores the one that comes first: Campfire says nothing of ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import product

Weight = list[list[list[float]]]
Mask = list[list[list[bool]]]
Place = tuple[int, int, int]
DEAD = -1.0


def places(weight: Weight) -> list[Place]:
    return list(product(range(len(weight)), range(len(weight[0])), range(len(weight[0][0]))))


def half_up(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def without(mask: Mask, dead: Iterable[Place]) -> Mask:
    left = [[list(kernel) for kernel in filters] for filters in mask]
    for k, c, p in dead:
        left[k][c][p] = False
    return left


def kill_lowest(
    weight: Weight,
    mask: Mask,
    pools: list[list[list[Place]]],
    *,
    count: Callable[[int], int],
    score: Callable[[list[float]], float] = max,
    spared: Iterable[list[Place]] = (),
) -> Mask:
    """Of every pool (a list of groups, each a list of places) kill so many groups, but never all of them."""
    gone: list[Place] = []
    for pool in pools:
        left = min(count(len(pool)), len(pool) - 1)
        for group in sorted((g for g in pool if g not in list(spared)), key=lambda g: scored(weight, mask, g, score)):
            if left > 0:
                gone += group
                left -= 1
    return without(mask, gone)


def scored(weight: Weight, mask: Mask, group: list[Place], score: Callable[[list[float]], float]) -> float:
    if not any(mask[k][c][p] for k, c, p in group):
        return DEAD
    return score([weight[k][c][p] if mask[k][c][p] else 0.0 for k, c, p in group])


def kernels_of(weight: Weight) -> list[list[Place]]:
    positions = range(len(weight[0][0]))
    return [[(k, c, p) for p in positions] for k in range(len(weight)) for c in range(len(weight[0]))]


def nearest(sparsity: Fraction) -> Callable[[int], int]:
    return lambda size: half_up(size * sparsity)


def window(weight: Weight, mask: Mask, s: Fraction, cap: int | None = None) -> Mask:
    """Keep so many weights in every kernel, the same number for all: 9 - (max(int(9 s), 8 - cap) + 1) of nine."""

    def zeros(size: int) -> int:
        least = 0 if cap is None else size - 1 - cap
        return 0 if s == 0 else max(math.floor(size * s), least) + 1

    return kill_lowest(weight, mask, [[[place] for place in kernel] for kernel in kernels_of(weight)], count=zeros)


def ck(weight: Weight, mask: Mask, s: Fraction, by_channel: bool = False) -> Mask:
    """Remove the kernels with the smallest maximum, of the layer or of every input channel."""
    kernels = kernels_of(weight)
    pools = [[g for g in kernels if g[0][1] == c] for c in range(len(weight[0]))] if by_channel else [kernels]
    return kill_lowest(weight, mask, pools, count=nearest(s))


def unstructured(weight: Weight, mask: Mask, s: Fraction) -> Mask:
    return kill_lowest(weight, mask, [[[place] for place in places(weight)]], count=nearest(s))


def filters(weight: Weight, mask: Mask, s: Fraction) -> Mask:
    whole = [[place for place in places(weight) if place[0] == k] for k in range(len(weight))]
    return kill_lowest(weight, mask, [whole], count=nearest(s), score=lambda values: sum(v * v for v in values))


def n_of_m(weight: Weight, mask: Mask, s: Fraction, m: int) -> Mask:
    channels = len(weight[0])
    pools = [
        [[(k, c, p)] for c in range(first, first + m)]
        for k, p in product(range(len(weight)), range(len(weight[0][0])))
        for first in range(0, channels - m + 1, m)
    ]
    return kill_lowest(weight, mask, pools, count=nearest(s))


def fine_fc(weight: Weight, mask: Mask, s: Fraction) -> Mask:
    """Remove single weights, but never the largest of an output neuron."""
    spared = []
    for k in range(len(weight)):
        row = [place for place in places(weight) if place[0] == k]
        best = max(row, key=lambda place: scored(weight, mask, [place], max))  # the first of equals
        if scored(weight, mask, [best], max) > DEAD:
            spared.append([best])
    return kill_lowest(weight, mask, [[[place] for place in places(weight)]], count=nearest(s), spared=spared)


def block_fc(weight: Weight, mask: Mask, s: Fraction, n: int = 5) -> Mask:
    """Remove n x n blocks by the mean of their magnitudes, but never the best of a row of blocks."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    rows = range(0, len(weight), n)
    blocks = [
        [(k, c, 0) for k, c, _ in places(weight) if k // n == row // n and c // n == column // n]
        for row in rows
        for column in range(0, len(weight[0]), n)
    ]
    spared = []
    for row in rows:
        best = max((b for b in blocks if b[0][0] == row), key=lambda b: scored(weight, mask, b, mean))
        if scored(weight, mask, best, mean) > DEAD:
            spared.append(best)
    return kill_lowest(weight, mask, [blocks], count=nearest(s), score=mean, spared=spared)


def one_by_n(weight: Weight, mask: Mask, s: Fraction, *, n: int = 4, linear: bool = False) -> Mask:
    """Remove blocks of n neighbouring filters by one weight of each, by their root mean square."""

    def rms(values: list[float]) -> float:
        return math.sqrt(sum(v * v for v in values) / len(values))

    rows = [range(first, min(first + n, len(weight))) for first in range(0, len(weight), n)]
    blocks = [[(k, c, p) for k in row] for row in rows for c in range(len(weight[0])) for p in range(len(weight[0][0]))]
    spared = []
    for row in rows if linear else ():
        best = max((b for b in blocks if b[0][0] == row[0]), key=lambda b: scored(weight, mask, b, rms))
        if scored(weight, mask, best, rms) > DEAD:
            spared.append(best)
    return kill_lowest(weight, mask, [blocks], count=nearest(s), score=rms, spared=spared)


def combined(weight: Weight, mask: Mask, s: Fraction, *, cap: int | None = None, by_channel: bool = False) -> Mask:
    """Close windows to 0.8 s, then remove kernels until no more than 1 - s of the weights are left."""
    if s == 0:
        return mask
    kernels, size = kernels_of(weight), len(weight[0][0])
    zeros = max(Fraction(4, 5) * s * size, Fraction(0 if cap is None else size - cap))
    mask = close(weight, mask, kernels, zeros)
    pools = [[g for g in kernels if g[0][1] == c] for c in range(len(weight[0]))] if by_channel else [kernels]
    for pool in pools:
        order = sorted(pool, key=lambda kernel: scored(weight, mask, kernel, max))
        for kernel in order[:-1]:
            if sum(mask[k][c][p] for g in pool for k, c, p in g) > (1 - s) * len(pool) * size:
                mask = without(mask, kernel)
    return mask


def inter_epoch(weight: Weight, mask: Mask, s: Fraction, final: Fraction) -> Mask:
    """Remove kernels up to their share of the final sparsity, then close the windows of those that live."""
    share = 1 - (1 - final) / (1 - Fraction(4, 5) * final)
    mask = ck(weight, mask, min(s, share))
    if s <= share:
        return mask
    live = [g for g in kernels_of(weight) if any(mask[k][c][p] for k, c, p in g)]
    size = len(weight[0][0])
    dead = len(kernels_of(weight)) - len(live)
    wanted = s * len(places(weight)) - dead * size
    return close(weight, mask, live, max(Fraction(0), wanted / len(live)))


def close(weight: Weight, mask: Mask, kernels: list[list[Place]], zeros: Fraction) -> Mask:
    """Take int(zeros) from each of the kernels and one more from as many as the rest of it amounts to."""
    size = len(kernels[0])
    each = min(math.floor(zeros), size - 1)
    ordered = [sorted(kernel, key=lambda place: scored(weight, mask, [place], max)) for kernel in kernels]
    gone = [place for kernel in ordered for place in kernel[:each]]
    odd = half_up((zeros - each) * len(kernels))
    if each + 1 < size:
        gone += sorted((kernel[each] for kernel in ordered), key=lambda place: scored(weight, mask, [place], max))[:odd]
    return without(mask, gone)


def grouped(weight: Weight, mask: Mask, s: Fraction, final: Fraction, groups: int = 4) -> Mask:
    """Every set of filters loses the inputs of the smallest sum of magnitudes in it; sets that differ stay apart."""
    filters, inputs = len(weight), len(weight[0])
    count = max(n for n in range(1, groups + 1) if filters % n == 0)
    size = filters // count
    patterns = [tuple(any(kernel) for kernel in filters) for filters in mask]
    alike = [[k for k in range(filters) if patterns[k] == pattern] for pattern in sorted(set(patterns))]
    if any(len(members) % size for members in alike):
        alike = [list(range(filters))]
    gone: list[Place] = []
    for members in alike:
        for chosen in sets_of(weight, mask, members, size, min(half_up(inputs * final), inputs - 1)):
            order = least_needed(weight, mask, chosen)
            dead = order[: min(half_up(inputs * s), inputs - 1)]
            gone += [(k, c, p) for k, c, p in places(weight) if k in chosen and c in dead]
    return without(mask, gone)


def need(weight: Weight, mask: Mask, k: int, c: int) -> float:
    return sum(value for value, kept in zip(weight[k][c], mask[k][c], strict=True) if kept)


def least_needed(weight: Weight, mask: Mask, chosen: list[int]) -> list[int]:
    """The inputs by the sum of what filters need of them, the least first; before them those that none reads."""

    def key(c: int) -> float:
        read = any(any(mask[k][c]) for k in chosen)
        return sum(need(weight, mask, k, c) for k in chosen) if read else DEAD

    return sorted(range(len(weight[0])), key=key)


def sets_of(weight: Weight, mask: Mask, members: list[int], size: int, dead: int) -> list[list[int]]:
    """From the inputs of single filters on: every two sets share their filters out anew, then choose inputs; again."""
    sets = [members[first : first + size] for first in range(0, len(members), size)]
    own = {k: least_needed(weight, mask, [k])[dead:] for k in members}

    def keeps(k: int, inputs: list[int]) -> float:
        return sum(need(weight, mask, k, c) for c in inputs)

    read = [own[max(members, key=lambda k: keeps(k, own[k]))]]
    while len(read) < len(sets):
        read.append(own[max(members, key=lambda k: keeps(k, own[k]) - max(keeps(k, one) for one in read))])
    for _ in range(50):
        before = [list(chosen) for chosen in sets], [set(one) for one in read]
        for a in range(len(sets)):
            for b in range(a + 1, len(sets)):

                def loss(k: int, mine: list[int] = read[a], other: list[int] = read[b]) -> float:
                    return keeps(k, other) - keeps(k, mine)

                order = sorted(sorted(sets[a] + sets[b]), key=loss)
                sets[a], sets[b] = order[:size], order[size:]
        read = [least_needed(weight, mask, chosen)[dead:] for chosen in sets]
        after = [sorted(chosen) for chosen in sets], [set(one) for one in read]
        if after == ([sorted(chosen) for chosen in before[0]], before[1]):
            break
    return sets
