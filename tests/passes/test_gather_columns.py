"""Gathered columns: the output stays the same whatever is dead, and gathering is chosen only where it is faster."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from campfire_fx import ShrinkError, shrink, sparsify
from campfire_fx.analysis.plan import ShrinkPlan
from campfire_fx.base.timing import least_times
from campfire_fx.passes import gather_columns
from tests.assertions import assert_same_output, parameters
from tests.nets.case import named

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
X = torch.randn(2, 3, 9, 8, dtype=torch.float64)
FASTER, SLOWER = (1.0, 0.5), (1.0, 1.5)


def timed(milliseconds: tuple[float, float]) -> Any:
    """Let every measurement of (convolution, gathering) give this."""
    return patch.object(gather_columns, "least_times", return_value=milliseconds)


@st.composite
def arguments(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], float, int]:
    kernel = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    options: dict[str, Any] = {
        "dilation": tuple(draw(st.integers(1, 2)) for _ in kernel),
        "groups": draw(st.sampled_from([1, 1, 2, 6])),
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])),
    }
    options["padding"] = draw(st.sampled_from(["same", "valid", tuple(draw(st.integers(0, 3)) for _ in kernel)]))
    if options["padding"] != "same":
        options["stride"] = tuple(draw(st.integers(1, 3)) for _ in kernel)
    return kernel, options, draw(st.sampled_from([0.1, 0.3, 0.6])), draw(st.integers(0, 9999))


def kill_columns(conv: Any, kept: float) -> None:
    """Set random columns of a layer to zero, and keep about a part of them, at least one."""
    mask = torch.rand(conv.weight.shape[1:]) < kept
    mask.view(-1)[torch.randint(mask.numel(), ())] = True
    with torch.no_grad():
        conv.weight.mul_(mask)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(arguments())
def test_any_dead_columns(drawn: tuple[tuple[int, ...], dict[str, Any], float, int]) -> None:
    kernel, options, kept, seed = drawn
    torch.manual_seed(seed)
    make = CONVOLUTIONS[len(kernel) - 1]
    net: Any = named(
        first=make(3, 6, 1), conv=make(6, 6, kernel, **options), act=nn.Tanh(), last=make(6, 2, 1)
    ).double()
    kill_columns(net.conv, kept)
    x = torch.randn(2, 3, *[11] * len(kernel), dtype=torch.float64)
    with timed(FASTER):
        slim: Any = shrink(net, x, columns=True, verify=False)
    assert_same_output(net, slim, (x,))
    assert_same_output(net, slim, (torch.randn(1, 3, *[14] * len(kernel), dtype=torch.float64),))
    for change in slim.plan.columns:
        assert not change.reason and change.after < change.before
        assert slim.get_submodule(change.name).weight[0].numel() == change.after == len(change.kept)
    weight = slim.get_submodule("conv").weight
    per_filter = (net.conv.weight != 0).any(0).sum()
    assert weight[0].numel() <= max(per_filter, 0.9 * net.conv.weight[0].numel())


def columned(kept: float = 0.2, **options: Any) -> Any:
    torch.manual_seed(0)
    net: Any = named(conv=nn.Conv2d(3, 8, 3, padding=1, **options), act=nn.ReLU(), last=nn.Conv2d(8, 2, 1)).double()
    kill_columns(net.conv, kept)
    return net


@pytest.mark.parametrize(("milliseconds", "gathers"), [((1.0, 0.89), True), ((1.0, 0.91), False), (SLOWER, False)])
def test_gathered_only_where_faster_by_a_margin(milliseconds: tuple[float, float], gathers: bool) -> None:
    net = columned()
    with timed(milliseconds):
        slim: Any = shrink(net, X, columns=True)
    (change,) = slim.plan.columns
    assert (change.dense_ms, change.gathered_ms) == milliseconds
    assert (change.after < change.before) is gathers is (slim.conv.kernel_size == (1, 1))
    report = " ".join(str(slim.report()).split())  # however lines are broken
    assert ("gathered" if gathers else "not faster") in report
    assert ShrinkPlan.from_json(slim.plan.to_json()) == slim.plan


def test_the_same_measurements_give_the_same_model() -> None:
    with timed(FASTER):
        first, second = (shrink(columned(), X, columns=True) for _ in range(2))
    assert first.code == second.code and first.plan == second.plan
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_off_unless_asked_for_and_nothing_to_do_where_few_columns_are_dead() -> None:
    with timed(FASTER) as timer:
        assert shrink(columned(), X).plan.columns == ()
        assert shrink(columned(kept=1.0), X, columns=True).plan.columns == ()
    timer.assert_not_called()


def test_the_clock_decides_where_nothing_is_patched() -> None:
    (change,) = shrink(columned(), X, columns=True).plan.columns
    assert change.dense_ms > 0 and change.gathered_ms > 0
    assert (change.after < change.before) is (change.gathered_ms <= 0.9 * change.dense_ms)
    quick, slow = least_times(lambda: None, lambda: torch.randn(100_000).sort(), torch.device("cpu"))
    assert 0 <= quick < slow


class Shared(nn.Module):
    """One weight, called by its module at two sizes; in training once more."""

    def __init__(self, last: Any = None) -> None:
        super().__init__()
        self.first, self.conv, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), last
        self.double()
        kill_columns(self.conv, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.max_pool2d(self.conv(self.first(x)), 2))
        x = self.conv(x) if self.training else x
        return x if self.last is None else self.last(x, self.conv.weight)


def test_every_call_of_a_shared_weight_gathers_in_both_modes() -> None:
    torch.manual_seed(0)
    net = Shared()
    with timed(FASTER):
        slim: Any = shrink(net, X, columns=True)
    assert len([n for n in slim.graph.nodes if n.target is torch.index_select]) == 2
    assert_same_output(net, slim, (X,))
    torch.testing.assert_close(net.train()(X), slim.train()(X))
    assert slim.plan.columns[0].dense_ms == 2 * FASTER[0]  # the calls in evaluation


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (lambda x, w: x * w.abs().sum(), "read elsewhere"),
        (lambda x, w: F.conv2d(x, w), "different settings"),
    ],
)
def test_a_weight_that_is_used_in_other_ways_is_left_alone(last: Any, reason: str) -> None:
    with timed(FASTER):
        (change,) = shrink(Shared(last), X, columns=True).plan.columns
    assert change.after == change.before and reason in change.reason


def test_cropped_kernels_are_gathered_too() -> None:
    net = columned(0.5)
    with torch.no_grad():
        net.conv.weight[:, :, 2] = 0
    with timed(FASTER), patch("campfire_fx.passes.crop_kernels.MACS_PER_MOVE", 0):
        slim: Any = shrink(net, X, columns=True)
    (kernel,), (change,) = slim.plan.kernels, slim.plan.columns
    assert kernel.after == (2, 3) and change.before == 18 and change.after == (net.conv.weight != 0).any(0).sum()


def test_the_optimizer_goes_on_with_the_columns_that_are_left() -> None:
    net = columned()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    net(X).sum().backward()
    optimizer.step()
    before = optimizer.state[net.conv.weight]["momentum_buffer"]
    with timed(FASTER):
        slim: Any = shrink(net, X, optimizer=optimizer, columns=True)
    after = optimizer.state[slim.conv.weight]["momentum_buffer"]
    assert torch.equal(after.flatten(1), before.flatten(1)[:, list(slim.plan.columns[0].kept)])
    slim(X).sum().backward()
    optimizer.step()


def test_a_sparse_model_gathers_what_its_masks_leave() -> None:
    sparse = sparsify(columned(1.0).float(), "unstructured", prune_stem=True, example_inputs=X.float())
    sparse.finalize()
    mask = torch.zeros(8, 3, 3, 3, dtype=torch.bool)
    mask[:, 0, 0, 0] = mask[:, 1, 2, 1] = mask[:, 2, 1, 2] = True
    sparse.set_mask("conv", mask)
    with timed(FASTER):
        slim = sparse.shrink(columns=True)
    assert slim.get_parameter("conv.weight").shape[1:] == (3, 1, 1) and parameters(slim) < parameters(sparse)


def test_anything_but_yes_or_no_is_refused() -> None:
    wrong: Any = "fast"
    with pytest.raises(ShrinkError, match="columns='fast' is not a yes or no"):
        shrink(columned(), X, columns=wrong)
