"""docs/architecture.md: its worked example runs, and the files it names are there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"


def test_the_worked_example_runs() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted > 10 and not found.failed


def test_the_files_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE.read_text()))
    assert "analysis/rules/" in named
    places = (ROOT, ROOT / "campfire_fx")
    assert not [name for name in sorted(named) if not any((place / name).exists() for place in places)]
