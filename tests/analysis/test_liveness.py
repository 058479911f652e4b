"""Liveness: what a whole network needs, counted by hand on small ones."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from campfire_fx import shrink, trace
from campfire_fx.analysis.constants import find_constants
from campfire_fx.analysis.labelling import label
from campfire_fx.analysis.liveness import find_live
from tests.nets.case import conv, named, zero
from tests.random_zeros import randomise

X = torch.randn(2, 3, 6, 6, dtype=torch.float64)


def alive(model: nn.Module, **wishes: Any) -> dict[str, tuple[list[int], list[int]]]:
    """Return which inputs and outputs of each layer live."""
    labelling = label(trace(model.double().eval(), X))
    live = find_live(labelling, find_constants(labelling), **wishes)
    return {
        r.mixer.name: tuple(live.alive[p].flatten().nonzero().flatten().tolist() for p in (r.inputs, r.outputs))
        for r in live.readers
    }


def chain(*widths: int) -> Any:
    layers = {f"c{i}": conv(a, b) for i, (a, b) in enumerate(itertools.pairwise(widths))}
    return randomise(named(**layers), 0)


def test_what_nobody_reads_dies_back_to_the_input() -> None:
    model = chain(3, 4, 4, 2)
    with torch.no_grad():
        model.c2.weight[:, 1:] = 0  # only channel 0 is read,
        model.c1.weight[0, [0, 2, 3]] = 0  # and is itself made of channel 1 alone
    assert alive(model) == {"c0": ([0, 1, 2], [1]), "c1": ([1], [0]), "c2": ([0], [0, 1])}


def test_what_is_zero_dies_forward() -> None:
    model = chain(3, 4, 4, 2)
    with torch.no_grad():
        zero(model.c0.weight, 0, 1, 2)
        model.c1.weight[:2, 3] = 0  # two filters that read nothing but what is dead
    assert alive(model) == {"c0": ([0, 1, 2], [3]), "c1": ([3], [2, 3]), "c2": ([2, 3], [0, 1])}


def test_one_channel_is_always_left() -> None:
    model = chain(3, 4, 2)
    with torch.no_grad():
        model.c0.weight.zero_()
    found = alive(model)
    assert len(found["c0"][1]) == 1 and found["c1"] == (found["c0"][1], [0, 1])


def test_groups_stay_equal() -> None:
    model = randomise(named(a=conv(3, 8), b=conv(8, 8, groups=2), c=conv(8, 2)), 0)
    with torch.no_grad():
        model.c.weight[:, [0, 1, 4]] = 0  # the first group needs two outputs, the second three
    a, b, c = alive(model).values()
    assert [sum(i // 4 == g for i in b[1]) for g in (0, 1)] == [3, 3]
    assert set(b[1]) >= {2, 3, 5, 6, 7} and len(b[0]) == 8 == len(a[1]) and c[0] == b[1]


def test_counts_are_rounded_up_with_the_first_dead_ones() -> None:
    model = chain(3, 8, 2)
    with torch.no_grad():
        zero(model.c0.weight, 0, 1, 3)
    assert alive(model)["c0"][1] == [2, 4, 5, 6, 7]
    assert len(alive(model, round_to=2)["c0"][1]) == 6 and len(alive(model, round_to=8)["c0"][1]) == 8
    assert set(alive(model, round_to=2)["c0"][1]) >= {2, 4, 5, 6, 7}


def test_of_constants_at_a_padded_border_the_largest_is_kept() -> None:
    model = randomise(named(a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 2, 3, padding=1)), 0)
    with torch.no_grad():
        zero(model.a.weight, 0, 1, 2)
        model.a.bias[:3] = torch.tensor([0.5, -2.0, 1.0])
    assert alive(model)["a"][1] == [1, 3, 4, 5]
    model.b.padding = (0, 0)
    assert alive(model)["a"][1] == [3, 4, 5]


def test_a_second_shrink_finds_nothing_more() -> None:
    model = chain(3, 8, 8, 8, 2)
    with torch.no_grad():
        zero(model.c0.weight, 0, 1, 3)
        model.c2.weight[:, [0, 5]] = 0
        zero(model.c2.weight, 4)
    once = shrink(model.double(), X)
    twice = shrink(once, X)
    assert {k: v.shape for k, v in twice.state_dict().items()} == {k: v.shape for k, v in once.state_dict().items()}
    assert not twice.plan.repairs and not twice.plan.keep
