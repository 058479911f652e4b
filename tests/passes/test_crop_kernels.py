"""Cropped kernels: whatever taps are dead, the output stays the same, and what can go is gone."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx import shrink, sparsify
from campfire_fx.analysis.plan import KernelChange, ShrinkPlan
from campfire_fx.passes import crop_kernels
from tests.assertions import assert_same_output
from tests.nets.case import named

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
X = torch.randn(2, 3, 9, 8, dtype=torch.float64)


@dataclass(frozen=True)
class Drawn:
    """A convolution drawn at random: its arguments, and the taps along each axis that stay alive."""

    kernel: tuple[int, ...]
    live: tuple[tuple[int, ...], ...]
    options: dict[str, Any]

    def build(self) -> nn.Sequential:
        rank = len(self.kernel)
        conv = CONVOLUTIONS[rank - 1](4, 4, self.kernel, **self.options)
        kill_taps(conv, *self.live)
        first, last = CONVOLUTIONS[rank - 1](3, 4, 1), CONVOLUTIONS[rank - 1](4, 2, 1)
        return named(first=first, conv=conv, act=nn.Tanh(), last=last).double()

    def inputs(self, size: int = 11) -> Tensor:
        return torch.randn(2, 3, *[size] * len(self.kernel), dtype=torch.float64)


@st.composite
def convolutions(draw: st.DrawFn) -> Drawn:
    kernel = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    live = tuple(tuple(sorted(draw(st.sets(st.integers(0, size - 1), min_size=1)))) for size in kernel)
    options: dict[str, Any] = {
        "dilation": tuple(draw(st.integers(1, 2)) for _ in kernel),
        "groups": draw(st.sampled_from([1, 2, 4])),
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])),
    }
    options["padding"] = draw(st.sampled_from(["same", "valid", tuple(draw(st.integers(0, 3)) for _ in kernel)]))
    if options["padding"] != "same":
        options["stride"] = tuple(draw(st.integers(1, 3)) for _ in kernel)
    return Drawn(kernel, live, options)


def kill_taps(conv: Any, *live: Any) -> None:
    """Set every weight to zero but those at the taps given along each axis."""
    mask = torch.ones(conv.weight.shape[2:])
    for axis, taps in enumerate(live):
        keep = torch.zeros(mask.shape[axis])
        keep[list(taps)] = 1
        mask = (mask.movedim(axis, -1) * keep).movedim(-1, axis)
    with torch.no_grad():
        conv.weight.mul_(mask)


def fewest(live: tuple[int, ...]) -> int:
    return 1 + (live[-1] - live[0]) // (gcd(*(tap - live[0] for tap in live)) or 1)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(convolutions())
def test_any_dead_taps(drawn: Drawn) -> None:
    net, x = drawn.build(), drawn.inputs()
    with patch.object(crop_kernels, "MACS_PER_MOVE", 0):
        slim = shrink(net, x, verify=False)
    assert_same_output(net, slim, (x,))
    assert_same_output(net, slim, (drawn.inputs(14)[:1],))
    kernel = slim.get_submodule("conv").weight.shape[2:]
    if drawn.options["padding_mode"] == "zeros":
        assert kernel == tuple(map(fewest, drawn.live))
    assert all(now <= before for now, before in zip(kernel, drawn.kernel, strict=True))


def small(**options: Any) -> nn.Sequential:
    return named(conv=nn.Conv2d(3, 64, 3, **options), act=nn.ReLU(), last=nn.Conv2d(64, 2, 1)).double()


def cropped(net: nn.Module, *live: Any, **options: Any) -> tuple[Any, KernelChange]:
    kill_taps(net.get_submodule("conv"), *live)
    slim = shrink(net, X, **options)
    assert_same_output(net, slim, (X,))
    (kernel,) = slim.plan.kernels
    return slim, kernel


def test_a_row_of_taps_needs_no_padding_of_its_own() -> None:
    slim, kernel = cropped(small(padding=1), [1])
    assert kernel == KernelChange("conv", (3, 3), (1, 3), (1, 1), ((0, 0), (1, 1)))
    assert slim.conv.kernel_size == (1, 3) and slim.conv.padding == (0, 1)
    assert "kernel 1, 3" not in str(slim.report()) and "to 1" in str(slim.report())


def test_uneven_taps_are_padded_before_where_that_pays() -> None:
    slim, kernel = cropped(small(padding=1), [0, 1], [0, 1])
    assert kernel.after == (2, 2) and kernel.padded and kernel.padding == ((1, 0), (1, 0))
    assert [n.args[1] for n in slim.graph.nodes if n.target is F.pad] == [[1, 0, 1, 0]]
    _, kept = cropped(named(conv=nn.Conv2d(3, 4, 3, padding=1), last=nn.Conv2d(4, 2, 1)).double(), [0, 1], [0, 1])
    assert kept.after == (3, 3) and "does not pay" in kept.reason


def test_what_pads_otherwise_is_cropped_evenly_or_not_at_all() -> None:
    _, even = cropped(small(padding=1, padding_mode="reflect"), [1], [1])
    assert even.after == (1, 1)
    _, uneven = cropped(small(padding=1, padding_mode="reflect"), [0, 1])
    assert uneven.after == (3, 3) and "reflect" in uneven.reason


class Shared(nn.Module):
    """One weight, called twice by its module, and perhaps once as a function."""

    def __init__(self, call: Any = None) -> None:
        super().__init__()
        self.first, self.conv, self.call = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, padding=1), call
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.relu(self.conv(self.first(x))))
        return x if self.call is None else x + self.call(x, self.conv.weight, self.conv.bias)


def test_every_call_of_a_shared_weight_is_cropped_alike() -> None:
    slim, kernel = cropped(Shared(), [0, 1])
    assert kernel.after == (2, 3) and len([n for n in slim.graph.nodes if n.target is F.pad]) == 2
    slim, kernel = cropped(Shared(lambda x, w, b: F.conv2d(x, w, b, padding=1)), [0, 1])
    assert kernel.after == (2, 3) and len([n for n in slim.graph.nodes if n.target is F.pad]) == 3


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x, w, b: F.conv2d(F.pad(x, (0, 0, 1, 1)), w, b, padding=(0, 1)), "different settings"),
        (lambda x, w, b: F.conv2d(x, w, b, padding=1) * w.abs().sum(), "read elsewhere"),
        (lambda x, w, b: F.conv2d(x, w, b, padding=x.shape[1] // 64), "computed"),
    ],
)
def test_a_weight_that_is_used_in_other_ways_is_left_alone(call: Any, reason: str) -> None:
    _, kernel = cropped(Shared(call), [1])
    assert kernel.before == kernel.after == (3, 3) and reason in kernel.reason


def test_a_function_without_a_module_is_cropped() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight, stride=2, padding="valid")

    net = Net()
    with torch.no_grad():
        net.weight[:, :, [0, 2]] = 0
    with patch.object(crop_kernels, "MACS_PER_MOVE", 0):
        slim = shrink(net, X)
    assert slim.get_parameter("weight").shape == (4, 3, 1, 3)


def test_transposed_convolutions_are_left_alone_and_say_so() -> None:
    net = named(conv=nn.ConvTranspose2d(3, 4, 3), last=nn.Conv2d(4, 2, 1)).double()
    assert cropped(net, [1])[1].reason == "it is transposed"


def test_channels_and_taps_go_together() -> None:
    net: Any = small(padding=1, groups=1)
    with torch.no_grad():
        net.conv.weight[:40] = 0
        net.conv.weight[40:, :, 0] = net.conv.weight[40:, :, 2] = 0
    slim, _ = cropped(net)
    assert slim.conv.weight.shape == (24, 3, 1, 3)
    assert ShrinkPlan.from_json(slim.plan.to_json()) == slim.plan
    assert slim.plan.keep["conv.weight"] == (tuple(range(40, 64)), None, (1,), None)


@pytest.mark.parametrize("groups", [1, 4])
def test_the_optimizer_goes_on_with_the_taps_that_are_left(groups: int) -> None:
    net = named(first=nn.Conv2d(3, 8, 1), conv=nn.Conv2d(8, 8, 3, padding=1, groups=groups), last=nn.Conv2d(8, 2, 1))
    net.double()
    kill_taps(net.conv, [1])
    with torch.no_grad():
        net.conv.weight[:2] = 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    net(X).sum().backward()
    optimizer.step()
    before = optimizer.state[net.conv.weight]["momentum_buffer"]
    slim: Any = shrink(net, X, optimizer=optimizer)
    after = optimizer.state[slim.conv.weight]["momentum_buffer"]
    assert after.shape == slim.conv.weight.shape and slim.conv.kernel_size == (1, 3)
    assert torch.equal(after, before[2:, :, 1:2]) if groups == 1 else after.shape[2:] == (1, 3)


def test_training_goes_on_with_masks_of_cropped_kernels() -> None:
    net = named(conv=nn.Conv2d(3, 8, 3, padding=1), act=nn.ReLU(), last=nn.Conv2d(8, 2, 1))
    sparse = sparsify(net, "unstructured", overrides={"conv": 0.5}, prune_1x1=False, example_inputs=X.float())
    sparse.finalize()
    mask = torch.zeros(8, 3, 3, 3, dtype=torch.bool)
    mask[:, :2, 1] = mask[:, 2, 1, 1] = True
    sparse.set_mask("conv", mask)
    smaller: Any = sparse.reconfigure()
    assert torch.equal(smaller.conv.mask, mask[:, :, 1:2])


class Outside(nn.Module):
    """Looks at its data, so that only its parts are captured."""

    def __init__(self) -> None:
        super().__init__()
        self.part = small(padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.part(x)
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(("live", "after"), [([0, 1], (3, 3)), ([1], (1, 3))])
def test_where_other_code_may_call_a_layer_its_input_is_not_touched(live: list[int], after: tuple[int, ...]) -> None:
    net = Outside()
    kill_taps(net.part.get_submodule("conv"), live, [0, 1, 2])
    with patch.object(crop_kernels, "MACS_PER_MOVE", 0):
        slim = shrink(net, X, columns=True)
    (kernel,) = slim.plan.kernels
    assert kernel.after == after and ("outside" in kernel.reason) is (after == (3, 3))
    assert all("outside" in change.reason for change in slim.plan.columns)
