"""Numbers as people read them."""

from __future__ import annotations

import pytest
import torch

from campfire_fx.cost.measure import MacCount
from campfire_fx.report.numbers import cost_note, count, input_shapes, percent, plural, size


@pytest.mark.parametrize(("found", "text"), [
    (count(999), "999"), (count(1234567), "1.23 M"), (count(4.09e9), "4.09 G"),
    (size(999), "999 B"), (size(4_210_000), "4.21 MB"),
    (percent(0.7), "70.0 %"), (percent(0.98765, 2), "98.77 %"),
    (plural(1, "sum"), "1 sum"), (plural(0, "sum"), "0 sums"),
])  # fmt: skip
def test_numbers(found: str, text: str) -> None:
    assert found == text


def test_what_was_measured_and_what_was_not() -> None:
    shapes = input_shapes((torch.ones(1, 3, 8, 8),), {"flow": [torch.ones(2)]})
    cost = MacCount(1, {}, {"_native_batch_norm_legit_no_training": 2, "native_batch_norm": 1, "relu_": 1})
    assert cost_note(shapes, cost) == (
        "Measured on one call with 1x3x8x8, 2. Not counted in MACs: batch_norm 3x, relu 1x."
    )
    assert cost_note((), MacCount(1, {}, {})) == "Measured on one call with no tensors. Not counted in MACs: nothing."


def test_a_long_list_is_cut_to_the_most_frequent() -> None:
    cost = MacCount(1, {}, {f"op{i}": 20 - i for i in range(12)})
    assert cost_note((), cost).endswith("op9 11x, and 2 other operations.")
