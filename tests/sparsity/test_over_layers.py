"""The scope over layers against loops over lists: whose weights die, of all layers together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import (
    ELEMENT,
    FILTER,
    KERNEL,
    Cut,
    Goal,
    Granularity,
    Regime,
    admm,
    block,
    by_deviation,
    by_norm,
    l1,
    lamp,
    largest,
    over_layers,
    regime_named,
)
from campfire_fx.sparsity.over_layers import Ranked, cut_together
from campfire_fx.sparsity.scope import as_they_are
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import SGD, batches, layer, masks, sparse, train

Place = tuple[int, int, int]
Group = list[Place]
GRANULARITIES = {"element": ELEMENT, "kernel": KERNEL, "filter": FILTER, "block": block(2)}


def groups_of(granularity: Granularity, shape: tuple[int, ...]) -> list[Group]:
    """The groups in the order of their grid, by arithmetic on places alone."""
    tile = [n if size is None else size for n, size in zip(shape, granularity.tile, strict=True)]
    found: dict[tuple[int, ...], Group] = {}
    for place in product(*map(range, shape)):
        found.setdefault(tuple(at // size for at, size in zip(place, tile, strict=True)), []).append(place)  # type: ignore[arg-type]
    return [found[key] for key in sorted(found)]


def exact_lamp(scores: list[Fraction]) -> list[Fraction]:
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    sums = {i: sum((scores[j] ** 2 for j in order[at:]), Fraction(0)) for at, i in enumerate(order)}
    return [scores[i] ** 2 / sums[i] if sums[i] else Fraction(0) for i in range(len(scores))]


def exact_norm(scores: list[Fraction]) -> list[Fraction]:
    total = sum((s**2 for s in scores), Fraction(0))
    return [s**2 / total if total else Fraction(0) for s in scores]  # squared: the same order


def exact_deviation(scores: list[Fraction]) -> list[Fraction]:
    return [s * len(scores) for s in exact_norm(scores)]


EXACT: dict[str, tuple[Any, Callable[[list[Fraction]], list[Fraction]]]] = {
    "none": (as_they_are, lambda scores: scores),
    "norm": (by_norm, exact_norm),
    "lamp": (lamp, exact_lamp),
    "deviation": (by_deviation, exact_deviation),
}


def expected(
    layers: list[tuple[Granularity, Any, Any]],
    compare: Callable[[list[Fraction]], list[Fraction]],
    sparsity: Fraction,
    at_least: Fraction,
) -> list[list[Place]]:
    """Which places die: those dead already first, then group by group until there are enough."""
    queue: list[tuple[Fraction, int, int]] = []
    every: list[list[Group]] = []
    for number, (granularity, weight, mask) in enumerate(layers):
        groups = groups_of(granularity, tuple(weight.shape))
        every.append(groups)
        living = [i for i, group in enumerate(groups) if any(mask[place] for place in group)]
        mean = [
            sum((Fraction(float(weight[p].abs())) for p in groups[i] if mask[p]), Fraction(0)) / len(groups[i])
            for i in living
        ]
        compared = dict(zip(living, compare(mean), strict=True))
        order = sorted(range(len(groups)), key=lambda i: (compared.get(i, Fraction(-1)), i))
        stay = max(1, -int(-at_least * len(groups) // 1))
        kept = set(order[len(groups) - stay :]) & set(living)
        queue += [(compared.get(i, Fraction(-1)), number, i) for i in range(len(groups)) if i not in kept]
    total = sum(weight.numel() for _, weight, _ in layers)
    gone, dead = 0, [[place for place in product(*map(range, w.shape)) if not m[place]] for _, w, m in layers]
    for _, number, i in sorted(queue):
        size = len(every[number][i])
        if gone >= sparsity * total:
            break
        gone += size
        dead[number] += every[number][i]
    return [sorted(set(places)) for places in dead]  # type: ignore[arg-type]


@pytest.mark.parametrize("how", EXACT)
@given(data=st.data(), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_masks_are_those_of_the_loops(how: str, data: st.DataObject, seed: int) -> None:
    normalise, compare = EXACT[how]
    at_least = data.draw(st.sampled_from([Fraction(0), Fraction(1, 4)]))
    early, final = sorted(data.draw(st.tuples(*[st.integers(0, 99).map(lambda n: Fraction(n, 100))] * 2)))
    generator = torch.Generator().manual_seed(seed)
    ties = how in ("none", "lamp") and data.draw(st.booleans())
    known = []
    for _ in range(data.draw(st.integers(1, 3))):
        shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 4])))
        known.append((GRANULARITIES[data.draw(st.sampled_from(sorted(GRANULARITIES)))], shape))
    kept = [torch.ones(shape, dtype=torch.bool) for _, shape in known]
    for due in (early, final):
        weights = [
            torch.randint(-3 if ties else -(2**20), 4 if ties else 2**20, shape, generator=generator).double()
            for _, shape in known
        ]
        scope = over_layers(normalise, float(at_least))
        ranked = [
            Ranked(Cut(g, l1, scope), weight * mask, mask)
            for (g, _), weight, mask in zip(known, weights, kept, strict=True)
        ]
        found = cut_together(ranked, float(due))
        loops = expected(
            [(layer.cut.granularity, layer.weight, layer.mask) for layer in ranked], compare, due, at_least
        )
        assert [[tuple(place) for place in (~mask).nonzero().tolist()] for mask in found] == loops
        again = [layer._replace(weight=layer.weight.flip(0), mask=m) for layer, m in zip(ranked, found, strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(cut_together(again, float(due)), found, strict=True))
        kept = found


def test_lamp_is_worked_out_by_hand() -> None:
    assert lamp(torch.tensor([3.0, 1.0, 2.0])).tolist() == [1.0, 1 / 14, 4 / 13]
    assert lamp(torch.tensor([0.0, 0.0])).tolist() == [0.0, 0.0]


def test_a_layer_of_small_weights_loses_more_and_the_sum_is_met() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))
    with torch.no_grad():
        model[1].weight.mul_(0.1)
    for name in ("global-magnitude", "lamp"):
        found = sparsify(model, name, sparsity=0.5, prune_stem=True, example_inputs=torch.zeros(1, 4, 9, 9)).finalize()
        rows = {row.name: row for row in found.sparsity().layers}
        assert sum(row.zeros for row in rows.values()) == ceil(0.5 * sum(row.weights for row in rows.values()))
        assert (rows["1"].true > 0.7) == (name == "global-magnitude"), "LAMP knows no scale"


def test_deep_compression_has_one_quality_parameter_for_all_layers() -> None:
    """Every weight below q times its layer's deviation dies, and no other; q is what the sparsity makes it."""
    model = sparse("deep-compression", sparsity=0.6, era=(0, 4), rounds=2)
    weights = {row.name: layer(model, row.name).weight.detach().clone() for row in model.sparsity().layers[1:]}
    assert model.finalize().sparsity().true == pytest.approx(0.6, abs=1e-3)
    quality = {name: weight.abs() / weight.square().mean().sqrt() for name, weight in weights.items()}
    alive = min(float(q[layer(model, name).mask].min()) for name, q in quality.items())
    dead = max(float(q[~layer(model, name).mask].max()) for name, q in quality.items())
    assert dead <= alive and 0.5 < dead < 1.5
    model = sparse("deep-compression", sparsity=0.75, era=(0, 4), rounds=2)
    due = []
    for epoch in range(5):
        model.epoch(epoch)
        due.append(model.sparsity().target)
    assert due == pytest.approx([0, 0, 0.5, 0.5, 0.75])


def test_masks_follow_the_schedule_and_nothing_comes_back() -> None:
    model = sparse("global-magnitude", era=(0, 3), sparsity=0.8)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=2)
    before = masks(model)
    for _ in train(model, optimizer, batches(8)):
        record, now = model.sparsity(), masks(model)
        assert record.true == pytest.approx(record.target, abs=1 / sum(mask.numel() for mask in now.values()))
        assert all(not (mask & ~before[name]).any() for name, mask in now.items())
        before = now
    assert model.sparsity().true == pytest.approx(0.8, abs=1e-3)


def test_a_layer_with_a_wish_or_a_mask_of_its_own_is_not_in_the_pool() -> None:
    model = sparse("global-magnitude", sparsity=0.8, overrides={"conv2": 0.3})
    own = torch.rand(layer(model, "fc").mask.shape) > 0.5
    model.set_mask("fc", own)
    model.finalize()
    rows = {row.name: row for row in model.sparsity().layers}
    assert torch.equal(layer(model, "fc").mask, own)
    assert rows["conv2"].zeros == round(0.3 * rows["conv2"].weights)
    pool = [rows["conv1"], rows["point"]]
    assert sum(row.zeros for row in pool) == ceil(0.8 * sum(row.weights for row in pool))


def test_at_least_is_kept_of_every_layer_and_checkpoints_know_it() -> None:
    regime = replace(regime_named("global-magnitude", at_least=0.25), name="mine")
    model = sparse(regime, sparsity=0.7).finalize()
    assert all(row.true <= 0.75 + 1e-9 for row in model.sparsity().pruned)
    other = sparse(replace(regime_named("global-magnitude"), name="mine"))
    with pytest.raises(RegimeError, match="at least 0.25 of each"):
        other.load_state_dict(model.state_dict())


def test_what_cannot_be_is_refused() -> None:
    cut = Cut(ELEMENT, largest, over_layers(lamp))
    with pytest.raises(RegimeError, match=r"its rule ranks over all layers, its method \(admm\) within each"):
        Regime("mine", spatial=cut, pointwise=None, linear=None, update=admm(ELEMENT).method)
    with pytest.raises(RegimeError, match=r"at_least: 1 is outside \[0, 1\)"):
        over_layers(at_least=1)


def test_one_layer_alone_is_ranked_within() -> None:
    weight, mask = torch.randn(4, 3, 9), torch.ones(4, 3, 9, dtype=torch.bool)
    cut = Cut(KERNEL, l1, over_layers(lamp))
    assert torch.equal(cut(weight, mask, Goal(0.5, 0.5)), cut_together([Ranked(cut, weight, mask)], 0.5)[0])
