"""Dynamic sparse training against loops over lists, written from the papers: SRigL, DSR and DeepR."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import ELEMENT, KERNEL, Moment, OpenLayer, deepr, dsr, srigl
from campfire_fx.sparsity.chance import seeded
from campfire_fx.sparsity.reallocation import Turnover, in_proportion
from campfire_fx.sparsity.regimes.deepr import Rewiring
from campfire_fx.sparsity.regimes.dsr import Reallocating
from campfire_fx.sparsity.regimes.srigl import ConstantFanIn
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import assert_zero_under_masks, batches, layer, masks, sparse, train
from tests.training.test_sr_ste import Two

Rows = list[list[float]]
Kept = list[list[bool]]
ERA, STEPS = (0, 4), 3


def srigl_by_loops(
    weight: Rows, gradient: Rows, mask: Kept, *, may: int, head: bool, fraction: float, share: float
) -> Kept:
    """One exchange in a layer of neurons (rows); `may`: how many weights it may have."""
    size = len(weight[0])
    places = [(k, c) for k in range(len(weight)) for c in range(size)]
    living = [place for place in places if mask[place[0]][place[1]]]
    dying = int(fraction * len(living))
    strongest = sorted(living, key=lambda at: abs(weight[at[0]][at[1]]))[dying:]
    steepest = sorted(places, key=lambda at: abs(gradient[at[0]][at[1]]))[len(places) - dying :]
    salient = {*strongest, *steepest}
    count = [sum((k, c) in salient for c in range(size)) for k in range(len(weight))]
    least = max(1, int(share * (may // len(weight))))
    alive = {k for k in range(len(weight)) if head or count[k] >= least}
    fewest = -(-may // size)
    alive |= set(sorted(range(len(weight)), key=lambda k: -count[k])[:fewest])
    fan_in = min(size, may // len(alive))
    of_alive = sorted((at for at in living if at[0] in alive), key=lambda at: abs(weight[at[0]][at[1]]))
    stays = set(of_alive[max(0, len(of_alive) - len(strongest)) :])
    result = [[False] * size for _ in weight]
    for k in alive:
        own = sorted((c for c in range(size) if (k, c) in stays), key=lambda c: -abs(weight[k][c]))[:fan_in]
        rest = sorted((c for c in range(size) if (k, c) not in stays), key=lambda c: -abs(gradient[k][c]))
        for c in (own + rest)[:fan_in]:
            result[k][c] = True
    return result


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 8)),
    st.floats(0.05, 0.9),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_srigl_is_that_of_the_loops(
    shape: tuple[int, int], sparsity: float, fraction: float, share: float, head: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, gradient = (torch.randint(-20, 21, (*shape, 1), generator=generator).double() for _ in range(2))
    may = max(shape[0], int((1 - sparsity) * shape[0] * shape[1] + 1e-9))
    mask = torch.zeros(*shape, 1, dtype=torch.bool)
    for row in mask:
        row.view(-1)[torch.randperm(shape[1], generator=generator)[: may // shape[0]]] = True
    update = ConstantFanIn(1, 1.0, share)
    for _ in range(2):  # the second with neurons that have died
        found = update.exchanged(OpenLayer(weight * mask, gradient, mask, sparsity, head), fraction).view_as(mask)
        expected = srigl_by_loops(
            (weight * mask)[..., 0].tolist(),
            gradient[..., 0].tolist(),
            mask[..., 0].tolist(),
            may=may,
            head=head,
            fraction=fraction,
            share=share,
        )
        assert found[..., 0].tolist() == expected
        alive = found.flatten(1).any(1)
        assert len(set(found.flatten(1).sum(1)[alive].tolist())) == 1 and int(found.sum()) <= may
        assert not head or bool(alive.all())
        mask = found


def test_srigl_keeps_fan_in_constant_and_neurons_die_but_classes_never() -> None:
    model = sparse(srigl(2, salient=0.9), era=(0, 6), sparsity=0.9)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    model.attach(optimizer, steps_per_epoch=4)
    died = set()
    for _ in train(model, optimizer, batches(24)):
        for name, mask in masks(model).items():
            counts = mask.flatten(1).sum(1)
            assert len(set(counts[counts > 0].tolist())) == 1, name
            died |= {name} if not counts.all() else set()
    assert died and "fc.mask" not in died
    slim = model.finalize().double().eval().shrink()
    x = torch.randn(2, 3, 8, 8).double()
    torch.testing.assert_close(slim(x), model(x), rtol=1e-9, atol=1e-11)
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in model.parameters())


def by_proportion(gone: list[int], left: list[int], room: list[int], sizes: list[int]) -> list[int]:
    """DSR's shares, with what finds no room shared out again."""
    rest, grown = sum(gone), [0] * len(gone)
    while True:
        fits = [i for i in range(len(gone)) if room[i] > grown[i] and sizes[i] <= rest]
        if not fits:
            return grown
        total, before = sum(left[i] for i in fits), rest
        for i in fits:
            count = min(room[i] - grown[i], int(Fraction(before * left[i], total * sizes[i])) if total else 0)
            grown[i] += count
            rest -= count * sizes[i]
        if rest == before:
            grown[fits[0]] += 1
            rest -= sizes[fits[0]]


@given(st.data(), st.integers(1, 4))
def test_as_many_weights_grow_as_die_in_proportion_to_what_is_left(data: st.DataObject, count: int) -> None:
    numbers = st.integers(0, 30)
    turnovers = []
    for _ in range(count):
        live, dead, room = data.draw(st.tuples(st.integers(1, 30), numbers, numbers))
        total = live + min(dead, live - 1) + room
        living, dying = torch.arange(total) < total - room, torch.arange(total) < min(dead, live - 1)
        size = data.draw(st.sampled_from([1, 1, 4, 9]))
        turnovers.append(Turnover(living, dying, ELEMENT, size, torch.Size([1, 1, total])))
    grown = in_proportion(turnovers)
    gone, left, room_ = ([getattr(t, name) for t in turnovers] for name in ("gone", "left", "room"))
    sizes = [t.size for t in turnovers]
    assert grown == by_proportion(gone, left, room_, sizes)
    assert all(0 <= n <= most for n, most in zip(grown, room_, strict=True))
    lacking = sum(gone) - sum(n * size for n, size in zip(grown, sizes, strict=True))
    assert lacking >= 0 and (lacking < max(sizes) or all(n == m for n, m in zip(grown, room_, strict=True)))


def test_shares_are_worked_out_by_hand() -> None:
    """Ten die; 30 and 60 are left: 3 and 6, and the one that is over goes to the first. Then only four fit there."""
    two = [((40, 10), 100), ((60, 0), 100)]
    made = [
        Turnover(
            torch.arange(sum(n) + room - n[1]) < n[0], torch.arange(n[0] + room) < n[1], ELEMENT, 1, torch.Size([])
        )
        for n, room in two
    ]
    assert [t.left for t in made] == [30, 60] and in_proportion(made) == [4, 6]
    full = Turnover(torch.arange(62) < 60, torch.arange(62) < 0, ELEMENT, 1, torch.Size([]))
    assert in_proportion([made[0], full]) == [8, 2]


Grids = dict[str, tuple[Tensor, Tensor, int]]
"""Of each layer: which groups live, which of them die, and how many weights a group has."""


def dying_below(limit: float, weights: dict[str, Tensor], before: dict[str, Tensor], *, whole: bool) -> Grids:
    found: Grids = {}
    for name, weight in weights.items():
        mask = before[f"{name}.mask"]
        grid = mask.flatten(2) if mask.dim() == 4 else mask.unsqueeze(-1)
        scores, size = weight.abs().view_as(grid) * grid, 1
        if whole and mask.dim() == 4:
            size = grid.shape[-1]
            scores, grid = scores.mean(-1, keepdim=True), grid.any(-1, keepdim=True)
        found[name] = (grid, grid & (scores < limit) & (scores < scores[grid].max()), size)
    return found


@pytest.mark.parametrize("granularity", [ELEMENT, KERNEL], ids=str)
def test_dsr_is_that_of_the_loops(granularity: Any) -> None:
    model = sparse(dsr(granularity, period=2, share=0.2), era=ERA, sparsity=0.6).train()
    optimizer = SGD(model.parameters(), 0.1)
    model.attach(optimizer, steps_per_epoch=STEPS)
    names = [row.name for row in model.sparsity().layers if not row.reason]
    seeds = {name: model._life_cycle.state.layers[name].numbers["seed"] for name in names}
    limit, moved, zeros = 1e-3, 0, model.sparsity().zeros
    for step, (x, y) in enumerate(batches(14)):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before = masks(model)
        with torch.no_grad():  # plain SGD, so that the weights that are ranked are known
            parts = {name: layer(model, name).weight for name in names}
            weights = {name: part - 0.1 * part.grad for name, part in parts.items() if part.grad is not None}
        optimizer.step()
        if (step + 1) % 2 or step + 1 > ERA[1] * STEPS:
            assert all(torch.equal(mask, before[name]) for name, mask in masks(model).items())
            continue
        grids = dying_below(limit, weights, before, whole=granularity == KERNEL)
        gone = [int(dying.sum()) * size for _, dying, size in grids.values()]
        left = [int((live & ~dying).sum()) * size for live, dying, size in grids.values()]
        room = [int((~live).sum()) for live, _, _ in grids.values()]
        counts = by_proportion(gone, left, room, [size for _, _, size in grids.values()])
        for (name, (live, dying, _)), count in zip(grids.items(), counts, strict=True):
            chance = torch.rand(live.shape, generator=seeded(seeds[name] ^ (step + 1)))
            want = live & ~dying
            for at in sorted((~live).nonzero().tolist(), key=lambda at: float(chance[tuple(at)]))[:count]:
                want[tuple(at)] = True
            found = layer(model, name).mask
            assert torch.equal(found, want.expand(-1, -1, found[0, 0].numel()).reshape(found.shape)), name
        moved += sum(gone)
        wanted = 0.2 * (sum(gone) + sum(left))
        limit *= 2 if sum(gone) < 0.9 * wanted else 0.5 if sum(gone) > 1.1 * wanted else 1
        assert float(model._life_cycle.state.memory["dsr threshold"]) == limit
        assert_zero_under_masks(model, optimizer)
    assert moved > 10 and limit > 1e-3
    assert abs(model.sparsity().zeros - zeros) < (9 * len(names) if granularity == KERNEL else 1)


def test_deepr_is_that_of_the_loops() -> None:
    rate, l1, noise = 0.2, 0.02, 0.3
    torch.manual_seed(0)
    model = Two().double()
    dense = [p.detach().clone() for p in model.parameters()]
    ours: SparseModel = sparsify(
        model, deepr(l1, noise), sparsity=0.6, era=ERA, prune_stem=True, example_inputs=torch.zeros(1, 3, 8, 8).double()
    )
    optimizer = SGD(ours.parameters(), rate)
    ours.attach(optimizer, steps_per_epoch=STEPS)
    kept = [mask.clone() for mask in masks(ours).values()]
    signs = [torch.where(weight < 0, -1.0, 1.0).double() for weight in dense]
    weights = [weight * mask for weight, mask in zip(dense, kept, strict=True)]
    seeds = [part.numbers["seed"] for part in ours._life_cycle.state.layers.values()]
    turned = 0
    for step, (x, y) in enumerate(batches(ERA[1] * STEPS + 2)):
        leaves = [weight.clone().requires_grad_() for weight in weights]
        hidden = F.relu(F.conv2d(x.double(), leaves[0])).mean((2, 3))
        F.cross_entropy(F.linear(torch.cat([hidden, hidden[:, :2] ** 2], 1), leaves[1]), y).backward()
        for i, leaf in enumerate(leaves):
            assert leaf.grad is not None
            shaken = torch.randn(leaf.shape, generator=seeded(seeds[i] ^ (2 * step + 1))).double()
            inside = step < ERA[1] * STEPS
            pull = l1 * signs[i] + noise * shaken if inside else torch.zeros(())
            weights[i] = weights[i] - rate * ((leaf.grad + pull) * kept[i])
            if not inside:
                continue
            wrong = [at for at in kept[i].nonzero().tolist() if float(weights[i][tuple(at)] * signs[i][tuple(at)]) < 0]
            drawn = torch.rand(leaf.shape, generator=seeded(seeds[i] ^ (2 * step + 2)))
            empty = sorted((~kept[i]).nonzero().tolist(), key=lambda at: float(drawn[tuple(at)]))
            wrong = sorted(wrong, key=lambda at: float(weights[i][tuple(at)] * signs[i][tuple(at)]))[: len(empty)]
            for out, new in zip(wrong, empty, strict=False):
                kept[i][tuple(out)], kept[i][tuple(new)] = False, True
                weights[i][tuple(out)] = 0
                turned += 1
        optimizer.zero_grad()
        F.cross_entropy(ours(x.double()), y).backward()
        optimizer.step()
        assert all(torch.equal(mask, want) for mask, want in zip(masks(ours).values(), kept, strict=True)), step
        for parameter, want in zip(ours.parameters(), weights, strict=True):
            torch.testing.assert_close(parameter.detach(), want, rtol=1e-10, atol=1e-12)
    assert turned > 5
    assert not any(isinstance(m, nn.Module) and getattr(m, "carried", None) for m in ours.modules())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Reallocating(0), "give a period of 1 step or more, a share"),
        (lambda: Reallocating(5, 1.0), "a share in"),
        (lambda: ConstantFanIn(5, salient=2), "fraction and salient in"),
        (lambda: Rewiring(-1.0), "l1 and noise are 0 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: Any, told: str) -> None:
    with pytest.raises(RegimeError, match=told):
        wrong()


def test_an_exchange_over_layers_waits_for_all() -> None:
    """One layer without a gradient that ranks: no mask moves, and gradients under masks are zero for the step."""
    model = sparse(srigl(1), era=(0, 4))
    optimizer = SGD(model.parameters(), 0.1)
    model.attach(optimizer, steps_per_epoch=8)
    for _ in train(model, optimizer, batches(1)):
        pass
    before = masks(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    layer(model, "conv2").weight.grad.fill_(torch.inf)  # type: ignore[union-attr]
    model.before_step()
    assert all(torch.equal(mask, before[name]) for name, mask in masks(model).items())
    conv = layer(model, "conv1")
    assert conv.weight.grad is not None and not conv.weight.grad[~conv.mask].any()
    assert ConstantFanIn(1).exchange_all([], Moment(0.0, 0)) == []
