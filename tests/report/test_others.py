"""Capture and sparsity reports, and the progress bar."""

from __future__ import annotations

import json
import time
from io import StringIO

import pytest
import torch
from rich.console import Console
from torch import nn

import campfire_fx
from campfire_fx.capture import trace
from campfire_fx.report import capture_report, sparsity_report
from campfire_fx.report import progress as module
from campfire_fx.report.progress import progress
from campfire_fx.report.style import plain
from tests.report.small import Small


def test_capture_report_counts_nodes() -> None:
    captured = trace(Small(), torch.randn(1, 3, 16, 16))
    text = str(capture_report(captured))
    assert "the whole model" in text and f" {len(captured.islands[0].module.graph.nodes)} " in text


def test_capture_report_says_what_is_checked() -> None:
    class Picky(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.shape[2] > 9 else x

    report = capture_report(trace(Picky(), torch.randn(1, 3, 16, 16)))
    assert "checked in every call: x.shape[2] > 9 (test_others.py:" in plain(report, 300)
    assert "x.shape[2] > 9" in json.loads(report.to_json())["islands"][0]["specialisations"][0]["guard"]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_sparsity_report(width: int) -> None:
    sparse = campfire_fx.sparsify(Small(), sparsity=0.5, example_inputs=torch.randn(1, 3, 16, 16)).finalize()
    record = sparse.sparsity()
    text = plain(sparsity_report(record), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "masks frozen" in text and "inner" in text and "50.0 %" in text
    assert sum(layer.zeros for layer in record.layers) == record.zeros


def test_progress_is_silent_when_quick_or_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, delay, shown in ((True, 2.0, False), (False, 0.0, False), (True, 0.0, True)):
        monkeypatch.setattr(module, "DELAY_SECONDS", delay)
        out = StringIO()
        with progress("Working", total=2, console=Console(file=out, force_terminal=terminal, width=60)) as advance:
            advance(1)
            time.sleep(0.05)
            advance(1, "still")
        assert ("Working" in out.getvalue()) is shown


def test_progress_of_one_long_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAY_SECONDS", 0.0)
    out = StringIO()
    with progress("Thinking", console=Console(file=out, force_terminal=True, width=60)):
        time.sleep(0.05)
    assert "Thinking" in out.getvalue()


def test_tied_layers_are_no_dense_layers() -> None:
    first, second = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
    second.weight = first.weight
    sparse = campfire_fx.sparsify(nn.Sequential(nn.Conv2d(3, 8, 3), first, second), sparsity=0.5)
    told = plain(sparsity_report(sparse.sparsity()))
    assert "No mask of its own: 2: it shares the weight of 1, and its mask." in told
    assert "Left dense: 0: it reads the model's input (prune_stem is off)." in told


def test_print_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    report = capture_report(trace(Small(), torch.randn(1, 3, 16, 16)))
    monkeypatch.setenv("COLUMNS", "50")
    assert max(len(line) for line in str(report).splitlines()) <= 50
    assert str(report) == plain(report, 50) != plain(report)
