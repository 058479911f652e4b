"""Proven constants, for every row of the rule table: what is proven is so at any size, and what should be proven is.

A graph of the row's call alone is given channels of which some are constant, made so by a product and a sum.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from campfire_fx.labels import Labelled
from tests.rules.alone import LARGE, SMALL, Alone, Sample, alone
from tests.rules.cutting import run
from tests.rules.test_law import every_sample

SOME, ALL = "some", "all"


def patterns(sample: Sample, which: str, *, zero: bool = False) -> list[Tensor]:
    """Return for each activation what its channels are: a number, or NaN where it depends on the input."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for act in sample.acts():
        values = torch.rand(act.channels(), generator=generator, dtype=torch.float64) + 0.25
        if zero:
            values = torch.zeros_like(values)
        if which == SOME:
            chosen = torch.rand(act.channels(), generator=generator)
            values = values.masked_fill(chosen < 0.5, torch.nan).masked_fill(chosen > 0.8, 0.0)
        made.append(values)
    return made


def proven(one: Alone) -> list[tuple[Tensor, Labelled]]:
    """Return for each labelled tensor of the result its constants, NaN elsewhere, and its labels."""
    values = one.constants().values[0][one.node]
    labels = pytree.tree_leaves(one.labels(), is_leaf=lambda v: isinstance(v, Labelled))
    flat = pytree.tree_leaves(values)
    assert len(flat) == len(labels)
    return [(v, at) for v, at in zip(flat, labels, strict=True) if isinstance(at, Labelled)]


@every_sample
def test_what_is_proven_is_so(target: Hashable, sample: Sample) -> None:
    """Whatever the input, its size included; and what is said to be provable is proven."""
    if not sample.runs:
        return
    for which, zero in ((SOME, False), (ALL, False), (ALL, True)):
        pattern = patterns(sample, which, zero=zero)
        one = alone(target, sample, constant=pattern)
        found = proven(one)
        _assert_so(found, one)
        if not zero and sample.resize and any(not v.isnan().all() for v, _ in found):
            _assert_so(found, alone(target, sample, size=LARGE, constant=pattern), spread=True)
        if which == ALL and any(act.tells() for act in sample.acts()):
            _assert_all_found([value for value, _ in found], one, zero=zero)


def _assert_so(found: list[tuple[Tensor, Labelled]], one: Alone, *, spread: bool = False) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [act.random(generator, LARGE if spread else SMALL) for act in one.sample.acts()]
    results = [t for t in pytree.tree_leaves(run(one.module, inputs)) if isinstance(t, Tensor)]
    if len(results) != len(found):
        return  # as many pieces as the image is wide
    for (value, labels), result in zip(found, results, strict=True):
        if spread:
            value = _spread(value, labels, result)
        known = ~value.isnan()
        torch.testing.assert_close(result[known].double(), value[known].double(), rtol=1e-9, atol=1e-9)


def _spread(value: Tensor, labels: Labelled, result: Tensor) -> Tensor:
    """Say of a larger result what was proven of a smaller one: channels are where they were, space has grown."""
    for dim, (now, then) in enumerate(zip(result.shape, value.shape, strict=True)):
        if now == then:
            continue
        if labels.labels.stride(dim) == 0 or then == 1:
            assert torch.equal(value.nan_to_num(7e9), value.narrow(dim, 0, 1).expand_as(value).nan_to_num(7e9))
            value = value.narrow(dim, 0, 1).expand([*value.shape[:dim], now, *value.shape[dim + 1 :]])
        else:
            return torch.full_like(result, torch.nan, dtype=torch.float64)  # channels lie along what has grown
    return value


def _assert_all_found(found: list[Tensor], one: Alone, *, zero: bool) -> None:
    wanted = one.sample.constants
    if wanted == "all" or (wanted == "zeros" and zero):
        results = [t for t in pytree.tree_leaves(run(one.module, one.inputs)) if isinstance(t, Tensor)]
        for value, result in zip(found, results, strict=True):
            assert not result.is_floating_point() or torch.equal(value.isnan(), result.isnan())
    elif wanted == "none":
        assert all(value.isnan().all() for value in found)


def test_the_patterns_hold_both_kinds() -> None:
    pattern: Any = torch.cat([p.flatten() for p in patterns(Sample(), SOME)])
    assert 0 < int(pattern.isnan().sum()) < pattern.numel()
