"""Plain characters for streams that are no UTF-8."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from campfire_fx.base.characters import PLAIN, legible
from campfire_fx.report.shrink import shrink_report
from campfire_fx.shrink.slim import shrink
from tests.report.small import damaged


@pytest.mark.parametrize(("text", "plain"), [
    ("├── a\n│   └── b", "+-- a\n|   +-- b"), ("╭─╮ ━━╸ ╺ ┃ ┼", "+-+ --- - | +"),
    ("0.4 ± 0.9 → 2 \u00d7 3 …", "0.4 +- 0.9 -> 2 x 3 ..."),
    ("▁▂█ ⣿", "### #"), ("plain", "plain"), ("é.png \udce9", r"\xe9.png \udce9"),
])  # fmt: skip
def test_what_stands_for_a_character(text: str, plain: str) -> None:
    assert text.encode("ascii", PLAIN) == plain.encode("ascii")


def test_a_code_page_keeps_what_it_has() -> None:
    assert "é ± …".encode("cp1252", PLAIN).decode("cp1252") == "é ± …"
    assert "─ →".encode("cp1252", PLAIN) == b"- ->"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_reports_can_be_printed_anywhere(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = damaged()
    report = shrink_report(shrink(net, torch.randn(1, 3, 16, 16)), net, repeats=1)
    with_lines = str(report)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    stream.write(f"{report}\n")
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.rstrip("\n") == legible(with_lines) and "4x8x3x3" in shown
    assert ("─" in shown) == (encoding == "utf-8") and "─" in with_lines and "\\u" not in shown
