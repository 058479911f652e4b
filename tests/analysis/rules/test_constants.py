"""Proven constants, for every row of the rule table: what is proven is so at any size, and what should be proven is.

A graph of the row's call alone is given channels of which some are constant, made so by a product and a sum.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules import Transfer, table
from campfire_fx.analysis.rules.norms import NORMS as OVER_CHANNELS
from tests.analysis.rules.alone import LARGE, SMALL, Act, Alone, Sample, alone
from tests.analysis.rules.cutting import run
from tests.analysis.rules.samples import SAMPLES
from tests.analysis.rules.test_law import every_sample
from tests.analysis.rules.test_samples import name_of

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


PRODUCTS = [target for target, rule in table().items() if rule.constant is Transfer.PRODUCT]


@pytest.mark.parametrize("target", PRODUCTS, ids=name_of)
@pytest.mark.parametrize("zero", [0, 1])
def test_a_factor_of_zero_makes_zero_of_anything(target: Hashable, zero: int) -> None:
    found = False
    for sample in SAMPLES[target]:
        shapes = [act.channels() for act in sample.acts()]
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            continue
        found = True
        pattern = [torch.full(shape, 0.0 if i == zero else torch.nan).double() for i, shape in enumerate(shapes)]
        assert all((value == 0).all() for value, _ in proven(alone(target, sample, constant=pattern)))
    assert found or "glu" in name_of(target).lower()


def test_a_linear_unit_whose_values_are_zero_is_zero() -> None:
    first, second = torch.zeros(2).double(), torch.full((2,), torch.nan).double()
    pattern = torch.cat([first, second]).view(1, 4, 1, 1)
    for args, kwargs in (((Act(), 1), {}), ((), {"input": Act(), "dim": 1})):
        one = alone(F.glu, Sample(args, kwargs), constant=[pattern])
        assert all((value == 0).all() for value, _ in proven(one))


NORMS = [target for target, rule in table().items() if rule.constant is Transfer.AFFINE]


@pytest.mark.parametrize("target", NORMS, ids=name_of)
def test_a_scale_of_zero_leaves_the_shift(target: Hashable) -> None:
    tried = 0
    for sample in SAMPLES[target]:
        one = alone(target, sample)
        scale, shift = (None if v is None else v.detach() for v in _affine(one))
        if scale is None or scale.shape != (4,):  # none, or one over space
            continue
        with torch.no_grad():
            scale[1] = 0
        wanted = 0.0 if shift is None else float(shift[1])
        ((value, labels),) = proven(one)
        dim = labels.labels.stride().index(1)
        assert (value.select(dim, 1) == wanted).all() and value.select(dim, 0).isnan().all()
        tried += 1
    assert tried or name_of(target).endswith("instance_norm")


def _affine(one: Alone) -> tuple[Tensor | None, Tensor | None]:
    """Return the scale and shift of a normalisation, wherever they are given."""
    if one.sample.module is not None:
        layer: Any = one.module.get_submodule("op")
        return layer.weight, layer.bias
    call = one.node
    held = [n for n in (*call.args, *call.kwargs.values()) if isinstance(n, fx.Node) and n.op == "get_attr"]
    if len(held) + 1 != len(call.all_input_nodes):
        return None, None  # computed statistics
    torch_order = ("input", "weight", "bias", "running_mean", "running_var")
    names = torch_order if call.target in (torch.batch_norm, torch.instance_norm) else NAMES
    if call.target in OVER_CHANNELS:
        names = ("input", "sizes", "weight", "bias")
    given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
    scale, shift = (given.get(name) for name in ("weight", "bias"))
    return tuple(getattr(one.module, str(n.target)) if n is not None else None for n in (scale, shift))


NAMES = ("input", "running_mean", "running_var", "weight", "bias")


def test_the_patterns_hold_both_kinds() -> None:
    pattern: Any = torch.cat([p.flatten() for p in patterns(Sample(), SOME)])
    assert 0 < int(pattern.isnan().sum()) < pattern.numel()
