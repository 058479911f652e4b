"""The shrink report: its numbers add up, and it fits every width without cutting a number."""

from __future__ import annotations

import json

import pytest
import torch

from campfire_fx.cost.measure import parameters
from campfire_fx.report import shrink_report
from campfire_fx.report.numbers import count
from campfire_fx.report.style import plain
from campfire_fx.shrink.slim import shrink
from tests.report.small import Small, damaged


@pytest.fixture(scope="module")
def report():
    net = damaged()
    slim = shrink(net, torch.randn(2, 3, 16, 16))
    return shrink_report(slim, net, repeats=2)


def test_totals_are_the_sums_of_the_rows(report) -> None:
    layers = json.loads(report.to_json())["plan"]["layers"]
    weights = sum(torch.Size(layer["weight_after"]).numel() for layer in layers)
    slim_others = 8 + 8 + 4 + 8 + 5  # norm, then the biases
    assert report.after.parameters == weights + slim_others
    assert report.inputs == ((1, 3, 16, 16),)
    assert report.before.macs.total == sum(report.before.macs.per_layer.values())


def test_says_what_became_smaller(report) -> None:
    text = plain(report)
    assert "6x8x3x3" in text and "4x8x3x3" in text
    assert "Same output: largest relative difference" in text
    assert "Always kept: 5 channels at output: the model's output." in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_fits_the_width_and_cuts_nothing(report, width: int) -> None:
    text = plain(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text and "\x1b" not in text
    assert "4x8x3x3" in text


def test_narrow_says_what_is_not_shown(report) -> None:
    assert "Not shown at this width: operation" in plain(report, 60)


def test_a_model_that_is_gone_is_not_measured() -> None:
    slim = shrink(damaged(), torch.randn(1, 3, 16, 16))
    report = slim.report()
    assert report.before is None
    assert report.after.parameters == parameters(slim)


def test_nothing_smaller_is_said() -> None:
    net = damaged()
    torch.nn.init.normal_(net.inner.weight)
    slim = shrink(net, torch.randn(1, 3, 16, 16))
    assert "Nothing became smaller: no channel is dead." in str(shrink_report(slim, net, repeats=2))


def test_zeros_that_free_no_channel_are_counted_and_what_would_help_is_said() -> None:
    model = Small().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(2)) > 0.6)
    slim = shrink(model, torch.randn(2, 3, 16, 16))
    zeros = sum(int((p == 0).sum()) for p in slim.parameters() if p.ndim > 1)
    weights = sum(p.numel() for p in slim.parameters() if p.ndim > 1)
    told = slim.report()
    assert told.after.zeros == (zeros, weights) == tuple(json.loads(told.to_json())["after"]["zeros"])
    shown = " ".join(str(told).split())
    assert f"{count(zeros)} of {count(weights)} weights" in shown
    assert "are still zero, but remove no channel: a channel is removed when its whole filter is zero" in shown
    assert 'Train with regime="channel"' in shown and "shrink(columns=True)" in shown
    assert "still zero" not in str(shrink(Small().eval(), torch.randn(2, 3, 16, 16)).report())


def test_what_the_example_decided_is_said() -> None:
    class Picky(Small):
        def forward(self, x: torch.Tensor, doubled: bool = False) -> torch.Tensor:
            y = super().forward(x)
            return y if x.shape[2] > 9 and not doubled else y * 2

    slim = shrink(Picky().eval(), torch.randn(1, 3, 16, 16))
    where = [guard.rpartition(" ")[2] for guard in slim.plan.guards]
    text = plain(shrink_report(slim, None, repeats=1), 300)
    said = f"doubled=False {where[0]}, x.shape[2] > 9 {where[1]}. Other inputs raise an error."
    assert f"Decided by the example, and checked in every call: {said}" in text
    assert type(slim.plan).from_json(slim.plan.to_json()) == slim.plan
    assert "checked in every call" not in plain(shrink_report(shrink(damaged(), torch.randn(1, 3, 16, 16)), None), 300)
