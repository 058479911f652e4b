"""Groups of filters: the output stays the same whichever sets there are, and groups come only where they are faster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx import ShrinkError, shrink, sparsify
from campfire_fx.analysis.edits.filter_groups import FilterGroups
from campfire_fx.analysis.plan import NormChange, ShrinkPlan
from campfire_fx.passes import group_filters
from tests.assertions import assert_same_output, parameters
from tests.nets.case import named
from tests.random_zeros import randomise

CONVOLUTIONS, NORMS = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
X = torch.randn(2, 6, 9, 8, dtype=torch.float64)


def timed(way: int = 0, faster: float = 0.5) -> Any:
    """Let every measurement find that the way of this number is the fastest, and take so many milliseconds, not 1."""

    def times(runs: Sequence[Any], _device: torch.device) -> list[float]:
        for run in runs:
            run()
        return [1.0, *(faster + abs(one - way) % (len(runs) - 1) for one in range(len(runs) - 1))]

    return patch.object(group_filters, "least_times_of", times)


def plant(conv: Any, sizes: Sequence[int], widths: Sequence[int], generator: torch.Generator) -> None:
    """Let filters, in no order, read the inputs of their set alone: sets of these sizes with so many inputs."""
    filters, inputs = conv.weight.shape[:2]
    sets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[torch.randperm(filters, generator=generator)]
    order = torch.randperm(inputs, generator=generator)  # each set reads others, as long as there are some
    read = torch.zeros(len(widths), inputs)
    for row, (start, width) in enumerate(zip(accumulate(widths, initial=0), widths, strict=False)):
        read[row, order[torch.arange(start, start + width) % inputs]] = 1
    with torch.no_grad():
        conv.weight.mul_(read[sets].view(filters, inputs, *[1] * (conv.weight.ndim - 2)))


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    kernel = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    options: dict[str, Any] = {
        "dilation": tuple(draw(st.integers(1, 2)) for _ in kernel),
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "reflect", "circular"])),
    }
    options["padding"] = draw(st.sampled_from(["same", "valid", tuple(draw(st.integers(0, 3)) for _ in kernel)]))
    if options["padding"] != "same":
        options["stride"] = tuple(draw(st.integers(1, 3)) for _ in kernel)
    sizes = draw(st.sampled_from([(4, 4, 4), (6, 6), (4, 8), (3, 3, 3, 3), (5, 4, 3), (12,)]))
    widths = [draw(st.integers(1, 5)) for _ in sizes]
    return {
        "kernel": kernel, "options": options, "sizes": sizes, "widths": widths, "way": draw(st.integers(0, 2)),
        "holes": draw(st.booleans()), "norm": draw(st.booleans()), "fold": draw(st.booleans()),
        "seed": draw(st.integers(0, 9999)),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(arguments())
def test_any_sets(drawn: dict[str, Any]) -> None:
    """Sets of any sizes and widths, with dead filters and lone zeros in them, in every kind of convolution."""
    torch.manual_seed(drawn["seed"])
    generator, rank = torch.Generator().manual_seed(drawn["seed"]), len(drawn["kernel"])
    make = CONVOLUTIONS[rank - 1]
    parts: dict[str, nn.Module] = {"first": make(3, 8, 1), "conv": make(8, 12, drawn["kernel"], **drawn["options"])}
    parts |= {"norm": NORMS[rank - 1](12)} if drawn["norm"] else {}
    net: Any = randomise(named(**parts, act=nn.Tanh(), last=make(12, 2, 1)).double(), drawn["seed"]).eval()
    plant(net.conv, drawn["sizes"], drawn["widths"], generator)
    if drawn["holes"]:
        with torch.no_grad():
            net.conv.weight[0] = 0
            net.conv.weight[1, net.conv.weight[1].flatten(1).any(1).nonzero()[0]] = 0
    x = torch.randn(2, 3, *[11] * rank, dtype=torch.float64)
    with timed(drawn["way"]):
        slim: Any = shrink(net, x, groups=True, fold_norms=drawn["fold"])
    assert_same_output(net, slim, (x,))
    assert_same_output(net, slim, (torch.randn(1, 3, *[14] * rank, dtype=torch.float64),))
    for change in slim.plan.groups:
        assert not change.reason and change.after < change.before
        conv = slim.get_submodule(change.name)
        assert conv.groups == len(change.filters) == len(change.inputs) and conv.weight.shape[1] == change.after
        assert conv.weight.numel() < net.conv.weight.numel()
    if drawn["norm"] and drawn["fold"]:
        assert slim.plan.norms == (NormChange("norm", "conv"),)


@given(seed=st.integers(0, 9999), groups=st.integers(2, 4), size=st.integers(2, 5), width=st.integers(1, 6))
def test_planted_sets_are_found_whole(seed: int, groups: int, size: int, width: int) -> None:
    conv = nn.Conv2d(12, groups * size, 3)
    plant(conv, [size] * groups, [width] * groups, torch.Generator().manual_seed(seed))
    weight = conv.weight.detach()
    ways = FilterGroups.ways(weight)
    assert groups * width > 0.9 * 12 * groups or min(way.cost for way in ways) <= groups * size * width
    for way in ways:
        back = torch.zeros_like(weight)
        for place, filters in enumerate(way.filters.flatten().tolist()):
            back[filters, way.inputs[place // way.filters.shape[1]]] = way.cut(weight)[place]
        assert torch.equal(back, weight) and torch.equal(way.filters.flatten()[way.outputs], torch.arange(len(weight)))


@pytest.mark.parametrize(("kept", "why"), [(1.0, "all are read"), (0.5, "each filter reads others")])
def test_nothing_is_found_in_weights_without_sets(kept: float, why: str) -> None:
    weight = torch.randn(16, 16, 3, 3) * (torch.rand(16, 16, 1, 1) < kept)
    assert FilterGroups.ways(weight) == [], why


def grouped_net() -> Any:
    torch.manual_seed(0)
    net: Any = named(
        first=nn.Conv2d(6, 8, 1), conv=nn.Conv2d(8, 12, 3, padding=1), act=nn.ReLU(), last=nn.Conv2d(12, 2, 1)
    ).double()  # fmt: skip
    plant(net.conv, (3, 3, 3, 3), (2, 2, 2, 2), torch.Generator().manual_seed(0))
    return net


@pytest.mark.parametrize(("milliseconds", "groups"), [(0.89, True), (0.91, False), (1.5, False)])
def test_grouped_only_where_faster_by_a_margin(
    milliseconds: float, groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    net = grouped_net()
    with timed(faster=milliseconds):
        slim: Any = shrink(net, X, groups=True)
    (change,) = slim.plan.groups
    assert (change.name, change.dense_ms, change.grouped_ms) == ("conv", 1.0, milliseconds)
    assert (change.after < change.before) is groups is (slim.conv.groups == 4)
    report = str(slim.report())
    assert ("4 groups, each with 2 of 8 inputs" if groups else "groups are not faster") in report
    assert ShrinkPlan.from_json(slim.plan.to_json()) == slim.plan
    if groups:
        assert parameters(slim) < parameters(net) and slim.verification.difference < 1e-12


def test_off_unless_asked_for_and_the_clock_decides_where_nothing_is_patched() -> None:
    with patch.object(group_filters, "least_times_of") as timer:
        assert shrink(grouped_net(), X).plan.groups == ()
        assert shrink(named(conv=nn.Conv2d(6, 4, 3)).double(), X, groups=True).plan.groups == ()
    timer.assert_not_called()
    (change,) = shrink(grouped_net(), X, groups=True).plan.groups
    assert change.dense_ms > 0 and change.grouped_ms > 0
    assert (change.after < change.before) is (change.grouped_ms <= 0.9 * change.dense_ms)


class Residual(nn.Module):
    """Outputs that go into a sum, a concatenation, a norm and a function, and one weight that is called twice."""

    def __init__(self, last: Any = None) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1)
        self.weight, self.bias = nn.Parameter(torch.randn(8, 12, 3, 3)), nn.Parameter(torch.randn(8))
        self.last = last
        self.double()
        generator = torch.Generator().manual_seed(1)
        plant(self.conv1, (3, 3), (3, 3), generator)
        plant(self.conv2, (2, 2, 2), (2, 2, 2), generator)
        plant(self, (4, 4), (6, 6), generator)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.conv2(torch.relu(self.norm(self.conv1(x))))
        x = torch.cat([x, self.conv1(F.max_pool2d(x, 3, 1, 1))], 1)
        x = F.conv2d(x, self.weight, self.bias, 2)
        return x if self.last is None else self.last(x, self)


@pytest.mark.parametrize("residual", ["union", "gate"])
def test_shared_weights_functions_residuals_and_both_modes(residual: str) -> None:
    torch.manual_seed(0)
    net = randomise(Residual(), 3)
    with timed():
        slim: Any = shrink(net, X, groups=True, residual=residual, round_to=2)
    assert_same_output(net, slim, (X,))
    torch.testing.assert_close(net.train()(X), slim.train()(X))
    found = {change.name: len(change.filters) for change in slim.plan.groups}
    assert found == {"conv1": 2, "conv2": 3, "weight": 2}


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (lambda x, net: x * net.conv1.weight.abs().sum(), "read elsewhere"),
        (lambda x, net: x * net.conv1.bias.sum(), "its bias is also used elsewhere"),
        (lambda x, net: x.sum() + F.conv2d(x[:, :6], net.conv1.weight, stride=2), "different settings"),
    ],
)
def test_what_is_used_in_other_ways_is_left_alone(last: Any, reason: str) -> None:
    with timed():
        slim = shrink(Residual(last), X, groups=True)
    change = next(change for change in slim.plan.groups if change.name == "conv1")
    assert change.after == change.before and reason in change.reason


def test_the_optimizer_goes_on_with_the_inputs_that_are_left() -> None:
    net = grouped_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    net(X).sum().backward()
    optimizer.step()
    before = {name: optimizer.state[p]["momentum_buffer"] for name, p in net.named_parameters()}
    with timed():
        slim: Any = shrink(net, X, optimizer=optimizer, groups=True)
    (change,) = slim.plan.groups
    after = optimizer.state[slim.conv.weight]["momentum_buffer"]
    for group, (filters, inputs) in enumerate(zip(change.filters, change.inputs, strict=True)):
        rows = slice(3 * group, 3 * group + 3)
        assert torch.equal(after[rows], before["conv.weight"][list(filters)][:, list(inputs)])
        assert torch.equal(optimizer.state[slim.conv.bias]["momentum_buffer"][rows], before["conv.bias"][list(filters)])
    slim(X).sum().backward()
    optimizer.step()


def test_a_sparse_model_is_grouped_as_its_regime_says() -> None:
    torch.manual_seed(0)
    net: Any = named(a=nn.Conv2d(6, 16, 3), b=nn.Conv2d(16, 24, 3, padding=1), c=nn.Conv2d(24, 8, 1))
    sparse = sparsify(net, "grouped", sparsity=0.5, example_inputs=X.float(), groups=2).finalize()
    with timed():
        slim: Any = sparse.shrink(groups=True)
    assert [(change.name, len(change.filters), change.after) for change in slim.plan.groups] == [
        ("b", 2, 8),
        ("c", 2, 12),
    ]
    assert [slim.b.weight.shape[1:], slim.c.weight.shape] == [(8, 3, 3), (8, 12, 1, 1)]


def test_columns_may_be_gathered_first() -> None:
    net = grouped_net()
    with torch.no_grad():
        net.conv.weight[:, :, 0, 1:] = 0
    with timed(), patch("campfire_fx.passes.gather_columns.least_times", return_value=(1.0, 0.5)):
        slim = shrink(net, X, columns=True, groups=True)
    assert_same_output(net, slim, (X,))
    assert slim.plan.columns[0].after and slim.plan.groups[0].after < slim.plan.groups[0].before


def test_anything_but_yes_or_no_is_refused() -> None:
    wrong: Any = 4
    with pytest.raises(ShrinkError, match="groups=4 is not a yes or no. Use True to convolve in groups"):
        shrink(grouped_net(), X, groups=wrong)
