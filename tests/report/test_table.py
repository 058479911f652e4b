"""Tables fit the width they are shown at: columns go first, then names are broken; no text is ever cut."""

from __future__ import annotations

import pytest

from campfire_fx.report.style import plain
from campfire_fx.report.table import Column, FittedTable, broken

COLUMNS = (
    Column("layer", right=False),
    Column("operation", 1, right=False),
    Column("output shape", right=False),
    Column("parameters"),
    Column("note", 2, right=False, wraps=True),
    Column("empty", right=False),
)
PATH = "features.denseblock3.denselayer24.a_name_that_is_longer_than_a_column"
ROW = (PATH, "BatchNorm2d", "1x1024x14x14", "1,234,567", "some words that may take several lines of a table", "")


def words(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [50, 60, 80, 120, 160, 300])
def test_what_is_shown_is_whole(width: int) -> None:
    shown = plain(FittedTable("Layers", COLUMNS, [ROW, ROW], ("all", "", "", "2,469,134", "", "")), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown and "empty" not in shown
    for text in (ROW[2], ROW[3], "2,469,134"):
        assert text in shown
    first = "".join(line[1:].split("  ")[0].strip() for line in shown.splitlines()[3:] if line[:1] == " ")
    assert PATH in first or PATH in shown
    assert ("Not shown at this width" in shown) == (width < 160)


def test_paths_are_broken_behind_their_dots() -> None:
    assert broken("layer1.0.conv1", 20) == "layer1.0.conv1"
    assert broken("features.denseblock3.denselayer24.conv2", 22) == "features.denseblock3.\ndenselayer24.conv2"
    assert broken("a" * 25, 10) == "a" * 10 + "\n" + "a" * 10 + "\n" + "a" * 5
    assert words(broken(PATH, 12)) == PATH
