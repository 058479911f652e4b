"""What the tools say is allocated is what is allocated."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

MB = 1 << 20


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    return importlib.import_module("allocation")


def test_the_peak_is_what_lies_there_at_once(tool: Any) -> None:
    def call() -> torch.Tensor:
        first = torch.ones(MB, dtype=torch.uint8)
        del first
        second = torch.ones(2 * MB, dtype=torch.uint8)
        return second + second  # while the second is there

    assert tool.peak_within(call) == pytest.approx(4 * MB, rel=0.01)


def test_tensors_alive_are_counted_once(tool: Any) -> None:
    before = tool.bytes_alive()
    kept = torch.zeros(MB, dtype=torch.uint8)
    views = [kept.view(4, -1), kept[10:], nn.Parameter(kept.float())]
    assert tool.bytes_alive() - before == 5 * MB
    del kept, views
    assert tool.bytes_alive() == before
