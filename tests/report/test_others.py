"""Capture and sparsity reports, and the progress bar."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console

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


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_sparsity_report(width: int) -> None:
    sparse = campfire_fx.sparsify(Small(), sparsity=0.5, example_inputs=torch.randn(1, 3, 16, 16)).finalize()
    record = sparse.sparsity()
    text = plain(sparsity_report(record), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "masks frozen" in text and "inner" in text and "50.0 %" in text
    assert sum(layer.zeros for layer in record.layers) == record.zeros


def test_progress_is_silent_when_quick_or_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, delay, shown in ((True, 2.0, False), (False, -1.0, False), (True, -1.0, True)):
        monkeypatch.setattr(module, "DELAY_SECONDS", delay)
        out = StringIO()
        with progress("Working", total=2, console=Console(file=out, force_terminal=terminal, width=60)) as advance:
            advance(1)
            advance(1, "still")
        assert ("Working" in out.getvalue()) is shown
