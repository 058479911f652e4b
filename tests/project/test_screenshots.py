"""The tool that makes pictures of a run: what a command writes to a terminal, and how that is drawn."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

screenshots = pytest.importorskip(
    "screenshots", reason="there are no terminals of this kind here", exc_type=ImportError
)


def cell(data: str, fg: str = "default", bold: bool = False) -> SimpleNamespace:
    return SimpleNamespace(data=data, fg=fg, bold=bold)


def test_a_command_runs_in_a_terminal_of_its_width() -> None:
    code = "import os, sys; print(os.get_terminal_size().columns, sys.stdout.isatty())"
    written = b"".join(screenshots.terminal([sys.executable, "-c", code]))
    assert written == f"{screenshots.COLUMNS} True\r\n".encode()
    with pytest.raises(SystemExit, match="it ended with exit code 3"):
        list(screenshots.terminal([sys.executable, "-c", "raise SystemExit(3)"]))


@pytest.mark.parametrize(("shown", "halfway"), [
    ("sparse, epoch 20 of 40 ━━━━ 18/37 loss 0.1", True),
    ("sparse, epoch 20 of 40 ━━━━ 0/37 loss 0.1", False),
    ("sparse, epoch 5 of 40 ━━━━ 18/37 loss 0.1", False),
    ("dense, epoch 20 of 40 ━━━━ 18/37 loss 0.1", False),
])  # fmt: skip
def test_the_moment_is_in_the_middle(shown: str, halfway: bool) -> None:
    assert screenshots.is_halfway(shown) is halfway


def test_what_a_terminal_shows_is_drawn(tmp_path: Path) -> None:
    row = defaultdict(lambda: cell(" "), enumerate(cell(letter, "cyan", True) for letter in "loss <1>"))
    screen = SimpleNamespace(buffer=defaultdict(lambda: defaultdict(lambda: cell(" ")), {0: row}))
    path = screenshots.draw(screen, tmp_path / "screen.svg")
    text = path.read_text(encoding="utf-8")
    assert "loss&#160;&lt;1&gt;" in text and "font-weight: bold" in text and "@font-face" not in text
    ET.parse(path)
    assert screenshots.draw(screen, tmp_path / "screen.svg").read_text(encoding="utf-8") == text


def test_colours_of_terminals_have_other_names_in_rich() -> None:
    found = [screenshots.colour(name) for name in ("default", "brown", "brightblack", "d7d7d7")]
    assert found == [None, "yellow", "bright_black", "#d7d7d7"]
