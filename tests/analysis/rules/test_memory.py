"""What operations write, and whose memory their results lie in, held against what torch does, for every row."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from campfire_fx import shrink
from campfire_fx.analysis.labelling import make_call
from campfire_fx.analysis.rules import Aliases, Kind, Writes, table
from campfire_fx.analysis.rules.conventions import IN_PLACE, place_of
from campfire_fx.analysis.rules.effects import returns_written, writes, writes_in_place, written
from campfire_fx.base.draws import is_drawn_by_torch
from tests.analysis.rules.alone import Alone, Sample, alone
from tests.analysis.rules.samples import SAMPLES
from tests.analysis.rules.test_law import every_sample
from tests.analysis.rules.test_samples import name_of

_ELSEWHERE = "a CPU copies; on other devices it is a view where nothing moves"
NEVER_SHARED = {
    **dict.fromkeys((torch.pixel_shuffle, torch.pixel_unshuffle, torch.channel_shuffle), _ELSEWHERE),
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), _ELSEWHERE),
    "cuda": "there need be no GPU",
}
"""What may share memory, but in no call that can be made here: the reason for each."""
SAME_HERE = {
    **dict.fromkeys(("cpu", "cuda", "double"), "all samples are in float64, on a CPU"),
    **dict.fromkeys((torch.conj, "conj", torch.resolve_conj, "resolve_conj"), "a conjugate is marked, not written out"),
    **dict.fromkeys((torch.atleast_1d, torch.atleast_2d, torch.atleast_3d), "samples have dimensions enough"),
}
"""What gives the tensor that it is given in every call here, but not in every other: the reason for each."""


@every_sample
def test_a_row_says_what_is_written(target: Hashable, sample: Sample) -> None:
    if not sample.runs:
        return
    one = alone(target, sample)
    module, row = one.run.submodule(one.node), table()[target]
    inputs = [x.clone() for x in one.inputs]
    result = _call_alone(one, inputs)
    changed = [source for source, x in zip(one.sources, inputs, strict=True) if x._version]
    told = bool(one.node.kwargs.get("inplace") or getattr(module, "inplace", False))
    writes = row.writes in (Writes.FIRST, Writes.PART) or (row.writes is Writes.OPTION and told)
    assert writes is writes_in_place(one.node, module)
    if row.kind not in (Kind.DROP, Kind.CAST) and one.sources:  # in evaluation these leave numbers as they are
        assert bool(changed) is writes and set(changed) <= set(written(one.node))
    if row.writes is Writes.FIRST and one.sources:
        assert result.data_ptr() == inputs[0].data_ptr() and row.aliases is Aliases.SAME
    if row.writes is Writes.PART:
        assert not isinstance(result, Tensor)


@pytest.mark.parametrize("target", table(), ids=name_of)
def test_what_may_be_told_to_write_has_an_argument_for_it(target: Hashable) -> None:
    assert (table()[target].writes is Writes.OPTION) is (place_of(target, "inplace") is not None)


@every_sample
def test_a_row_says_what_is_shared(target: Hashable, sample: Sample) -> None:
    if sample.runs:
        one = alone(target, sample)
        shared, inputs, results = _shared(one)
        how = table()[target].aliases
        in_place = writes_in_place(one.node, one.run.submodule(one.node))
        assert not shared or how is not Aliases.OWN or in_place
        if how is Aliases.SAME:
            assert shared == inputs[:1] and _is_same(inputs, results)


def _shared(one: Alone) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the inputs in whose memory a part of the result lies, all inputs, and the tensors of the result."""
    inputs = [x.clone() for x in one.inputs]
    results = [r for r in pytree.tree_leaves(_call_alone(one, inputs)) if isinstance(r, Tensor)]
    return [x for x in inputs if any(_overlap(x, r) for r in results)], inputs, results


views = pytest.mark.parametrize("target", [t for t, row in table().items() if row.aliases is Aliases.VIEW], ids=name_of)


@views
def test_what_may_share_memory_does_so_in_some_call(target: Hashable) -> None:
    assert any(_shared(one)[0] for one in _not_in_place(target)) is not (target in NEVER_SHARED)


@views
def test_what_always_is_the_tensor_that_is_given_is_said_to_be(target: Hashable) -> None:
    assert all(_is_same(*_shared(one)[1:]) for one in _not_in_place(target)) is (target in SAME_HERE)


def _not_in_place(target: Hashable) -> list[Alone]:
    ones = [alone(target, sample) for sample in SAMPLES[target] if sample.runs]
    return [one for one in ones if not writes_in_place(one.node, one.run.submodule(one.node))]


def _is_same(inputs: list[Tensor], results: list[Tensor]) -> bool:
    """Whether a call gave the first tensor that it was given."""
    if not inputs or len(results) != 1 or results[0].data_ptr() != inputs[0].data_ptr():
        return False
    return (results[0].shape, results[0].stride()) == (inputs[0].shape, inputs[0].stride())


@every_sample
def test_a_row_says_what_is_random(target: Hashable, sample: Sample) -> None:
    """A call that draws moves the generator, and no other does."""
    if not sample.runs:
        return
    one = alone(target, sample)
    call = make_call(one.run, one.node, one.labelling.structure, lambda _: None, table()[target])
    beside = any(
        is_drawn_by_torch(n.target) for n in one.run.graph.nodes if n.op == "call_function" and n is not one.node
    )
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _call_alone(one, [x.clone() for x in one.inputs])
    assert (not torch.equal(before, torch.get_rng_state())) is (beside or call.says(table()[target].random))


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


class _Twice(nn.Module):
    """Reads a convolution's result both before and after it is written to, by way of a possible copy."""

    def __init__(self, copy: Any) -> None:
        super().__init__()
        self.a, self.b, self.copy = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), copy
        with torch.no_grad():
            self.a.weight[0], self.a.bias[0] = 0, -1.0  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = self.copy(y)
        return self.b(z.float()) + self.b(y)


def _cast(y: Tensor) -> Tensor:
    z = y.double()
    y.relu_()
    return z


@pytest.mark.parametrize("copy", [_cast, lambda y: y.contiguous().relu_()])
def test_a_copy_that_may_be_none_is_not_taken_for_the_tensor(copy: Any) -> None:
    """Its constants are not those that are written into the other."""
    net, x = _Twice(copy).eval(), torch.randn(2, 3, 8, 8)
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    assert torch.allclose(shrink(net, x)(x), net(x), rtol=1e-4, atol=1e-5)
