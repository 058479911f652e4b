"""What operations write, and whose memory their results lie in, held against what torch does, for every row."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from campfire_fx.analysis.rules.conventions import IN_PLACE
from campfire_fx.analysis.rules.effects import returns_written, writes, writes_in_place, written
from campfire_fx.analysis.rules.kinds import Aliases
from tests.analysis.rules.alone import Alone, Sample, alone
from tests.analysis.rules.test_law import every_sample


@every_sample
def test_a_row_says_what_is_written_and_shared(target: Hashable, sample: Sample) -> None:
    if not sample.runs:
        return
    one = alone(target, sample)
    inputs = [x.clone() for x in one.inputs]
    result = _call_alone(one, inputs)
    module = one.run.submodule(one.node)
    changed = [source for source, x in zip(one.sources, inputs, strict=True) if x._version]
    if changed:
        assert writes_in_place(one.node, module)
        assert set(changed) <= set(written(one.node))
    shared = [x for x in inputs if any(_overlap(x, r) for r in pytree.tree_leaves(result) if isinstance(r, Tensor))]
    how = one.run.rule(one.node).aliases
    if shared and not changed:
        assert how is not Aliases.OWN
        assert how is Aliases.VIEW or shared == [x for x in shared if x is inputs[0]]


def _call_alone(one: Alone, inputs: list[Tensor]) -> Any:
    with torch.no_grad():
        return one.module.eval()(*inputs)[0]


def _overlap(one: Tensor, other: Tensor) -> bool:
    return one.numel() > 0 and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _node(target: Any, *others: Any) -> tuple[fx.Node, fx.Node]:
    graph = fx.Graph()
    x = graph.placeholder("x")
    kind = graph.call_method if isinstance(target, str) else graph.call_function
    return x, kind(target, (x, *others))


@pytest.mark.parametrize("name", [n for n in dir(torch.Tensor) if n.endswith("_") and not n.endswith("__")])
def test_every_method_in_place_writes(name: str) -> None:
    x, node = _node(name)
    assert returns_written(node) and written(node) == [x]


@pytest.mark.parametrize("name", [n for n in dir(operator) if n.startswith("__i") and n[3:-2] in dir(operator)])
def test_every_operator_in_place_writes(name: str) -> None:
    """`operator.__iadd__` is `operator.iadd`, and a tensor has a method of that name."""
    for target in (getattr(operator, name), name):
        x, node = _node(target, 2)
        assert returns_written(node) and written(node) == [x], target


def test_the_operators_found_are_those_of_python() -> None:
    """Each changes a list or a number's stand-in as its plain form would make a new one."""
    names = {"iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "ilshift",
             "irshift", "imatmul", "iconcat"}  # fmt: skip
    assert {function.__name__ for function in IN_PLACE} == names
    assert all(IN_PLACE[getattr(operator, n)].__name__.strip("_") == n[1:] for n in names)


@pytest.mark.parametrize("name", ["relu_", "sigmoid_", "add_"])
def test_a_function_with_a_mark_writes(name: str) -> None:
    assert writes(_node(getattr(torch, name, None) or name)[1])


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (torch.nn.functional.relu, (True,)),
        (torch.nn.functional.leaky_relu, (0.1, True)),
        (torch.nn.functional.threshold, (0.1, 5.0, True)),
        (torch.nn.functional.hardtanh, (-1.0, 1.0, True)),
    ],
)
def test_inplace_is_seen_by_its_place(function: Any, args: tuple[Any, ...]) -> None:
    assert writes(_node(function, *args)[1])
    assert not writes(_node(function, *args[:-1], False)[1])


def test_out_is_what_is_written() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    node = graph.call_function(torch.add, (x, 1.0), {"out": y})
    assert returns_written(node) and written(node) == [y]
