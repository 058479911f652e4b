"""What rows say of shapes, dimensions and padding, held against what torch does, for every row."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from campfire_fx.analysis.labelling import make_call
from campfire_fx.analysis.rules import Call, Kind, OpRule, Shape, Transfer, table
from tests.analysis.rules.alone import Alone, Sample, alone
from tests.analysis.rules.cutting import run
from tests.analysis.rules.samples import SAMPLES
from tests.analysis.rules.test_law import EVERY
from tests.analysis.rules.test_samples import name_of


def _of(*facts: Any) -> Any:
    """Parametrise a test with the samples of the rows of which something is true."""
    chosen = [given for given in EVERY if any(fact(table()[given.values[0]]) for fact in facts)]
    return pytest.mark.parametrize(("target", "sample"), chosen)


def _call(one: Alone, target: Hashable) -> Call:
    return make_call(one.run, one.node, one.labelling.structure, lambda _: None, table()[target])


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


@_of(lambda row: row.sizes is not Shape.OTHER)
def test_the_shape_of_a_result_is_what_the_row_says(target: Hashable, sample: Sample) -> None:
    one = alone(target, sample)
    if not sample.runs or not one.node.args or one.labelling.structure.settled.get(one.node) is not None:
        return
    shapes = {node: x.shape for node, x in zip(one.sources, one.inputs, strict=True)}
    held = {n: getattr(one.module, str(n.target)).shape for n in one.run.graph.nodes if n.op == "get_attr"}
    results = _tensors(run(one.module, one.inputs))
    given: Any = one.node.args[0]
    operands = list(given) if isinstance(given, (list, tuple)) else [a for a in one.node.args if isinstance(a, fx.Node)]
    if len(results) != 1 or not all(operand in {**shapes, **held} for operand in operands):
        return
    (result,), known = results, [{**shapes, **held}[operand] for operand in operands]
    how = table()[target].sizes
    if how is Shape.FIRST and isinstance(given, fx.Node):
        assert result.shape == known[0]
    elif how is Shape.BROADCAST and not any(isinstance(v, fx.Node) for v in one.node.kwargs.values()):
        assert result.shape == torch.broadcast_shapes(*known)
    elif how is Shape.JOINED:
        along = (
            one.node.args[1] if len(one.node.args) > 1 else one.node.kwargs.get("dim", one.node.kwargs.get("axis", 0))
        )
        assert result.shape[along] == sum(shape[along] for shape in known)


@pytest.mark.parametrize("how", [Shape.FIRST, Shape.BROADCAST, Shape.JOINED])
def test_every_way_to_say_a_shape_has_rows(how: Shape) -> None:
    assert any(row.sizes is how for row in table().values())


@_of(lambda row: row.axes is not None)
def test_positions_along_other_dimensions_do_not_meet(target: Hashable, sample: Sample) -> None:
    """A change at one place of a dimension that the row does not name changes the result at that place alone."""
    one = alone(target, sample)
    axes = _call(one, target).axes()
    if sample.runs and axes is not None and _has_one_input(one):
        others = [dim for dim in range(one.inputs[0].ndim) if dim not in axes and one.inputs[0].shape[dim] > 1]
        assert not any(_meets(one, dim, axes) for dim in others)


@pytest.mark.parametrize("target", [target for target, row in table().items() if row.axes is not None], ids=name_of)
def test_positions_along_the_dimensions_named_meet_in_some_call(target: Hashable) -> None:
    met = []
    for one in (alone(target, sample) for sample in SAMPLES[target] if sample.runs):
        axes = _call(one, target).axes()
        if axes and _has_one_input(one):
            met.append(all(_meets(one, dim, axes) for dim in axes if one.inputs[0].shape[dim] > 1))
    assert any(met) or not met


def _has_one_input(one: Alone) -> bool:
    return len(one.inputs) == 1 and one.inputs[0].is_floating_point()


def _meets(one: Alone, dim: int, axes: list[int]) -> bool:
    """Whether a change at one place of a dimension changes the result elsewhere, or there are no places any more."""
    (x,), before = one.inputs, _tensors(run(one.module, one.inputs))
    changed = x.clone()
    changed.select(dim, 0).mul_(torch.linspace(-30, 30, x.select(dim, 0).numel()).view(x.select(dim, 0).shape))
    for old, new in zip(before, _tensors(run(one.module, [changed])), strict=True):
        place = dim if old.ndim >= x.ndim else dim - sum(axis < dim for axis in axes)
        gone = dim in axes and (old.ndim < x.ndim or old.shape[dim] != x.shape[dim])
        if gone or not torch.equal(old.movedim(place, 0)[1:], new.movedim(place, 0)[1:]):
            return True
    return False


def _keeps_ones(one: Alone) -> bool:
    inputs = [torch.ones_like(one.inputs[0]), *one.inputs[1:]]
    values = _tensors(run(one.module, inputs))[:1]  # the places where a maximum was found are no values
    return all(bool((value == 1).all()) for value in values)


def _is_uniform(row: OpRule) -> bool:
    return row.constant is Transfer.KEEP or row.kind is Kind.PAD


@pytest.mark.parametrize("target", table(), ids=name_of)
def test_rows_say_nothing_that_nobody_reads(target: Hashable) -> None:
    row = table()[target]
    assert _is_uniform(row) or row.pads is False
    assert (row.constant is Transfer.MIX) is (row.kind in (Kind.MIX, Kind.MATMUL))


@_of(_is_uniform)
def test_ones_stay_ones_where_a_row_does_not_pad(target: Hashable, sample: Sample) -> None:
    one, row = alone(target, sample), table()[target]
    alone_read = len(one.node.all_input_nodes) == 1 or row.kind is Kind.SAMPLE  # else the larger of two, say
    plain = sample.runs and one.inputs[0].dtype is torch.float64 and alone_read
    unstacks = row.kind is Kind.REDUCE and row.pads is not False  # it sums other channels, and so is executed
    if plain and not unstacks and not _call(one, target).says(row.pads):
        assert _keeps_ones(one)


@pytest.mark.parametrize("target", [target for target, row in table().items() if _is_uniform(row)], ids=name_of)
def test_ones_do_not_stay_where_a_row_pads(target: Hashable) -> None:
    """In one of the calls at least: zeros put around may be none."""
    ones = [alone(target, sample) for sample in SAMPLES[target] if sample.runs]
    padded = [one for one in ones if _call(one, target).says(table()[target].pads)]
    real = [one for one in padded if one.inputs[0].dtype is torch.float64]
    assert not real or not all(map(_keeps_ones, real))
