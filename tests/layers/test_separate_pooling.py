"""Max pooling axis by axis gives torch's numbers, to the bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from campfire_fx.layers.separate_pooling import SeparateMaxPool, separate_pooling

POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    dims = data.draw(st.sampled_from((1, 2, 3)))
    size, stride, dilation = (tuple(data.draw(st.integers(1, most)) for _ in range(dims)) for most in (4, 3, 2))
    padding = tuple(data.draw(st.integers(0, one // 2)) for one in size)
    space = [(s - 1) * d + 1 + data.draw(st.integers(0, 6)) for s, d in zip(size, dilation, strict=True)]
    pool = POOLS[dims](size, stride, padding, dilation)
    x = torch.randn(2, 3, *space)
    x.view(-1)[:: data.draw(st.integers(3, 20))] = data.draw(st.sampled_from((float("nan"), float("-inf"), 0.0)))
    made = separate_pooling(pool, dims)
    assert isinstance(made, SeparateMaxPool)
    got = made(x)
    assert got.is_contiguous() and torch.equal(got.nan_to_num(7), pool(x).nan_to_num(7))
    assert torch.equal(made(x[0]).nan_to_num(7), pool(x[0]).nan_to_num(7))


def test_graphs_have_torchs_own() -> None:
    made = separate_pooling(nn.MaxPool2d(3, 2, 1), 2)
    sizes = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(made, (torch.randn(2, 3, 9, 8),), dynamic_shapes=(sizes,))
    x = torch.randn(2, 3, 20, 5)
    assert torch.equal(program.module()(x), made(x))


@pytest.mark.parametrize(
    ("pool", "told"),
    [(nn.MaxPool2d(2, ceil_mode=True), "it rounds sizes up"), (nn.MaxPool2d(2, return_indices=True), "places")],
)
def test_what_is_left_to_torch(pool: nn.Module, told: str) -> None:
    assert told in str(separate_pooling(pool, 2))
