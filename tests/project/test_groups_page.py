"""docs/groups.md: its snippet trains in groups and shrinks to them; the commands that it names are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

import campfire_fx
from campfire_fx.app.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "groups.md").read_text(encoding="utf-8")


def test_the_snippet_puts_its_filters_in_groups() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    quick = patch("campfire_fx.passes.group_filters.least_times_of", lambda runs, _: [1.0, *[0.5] * (len(runs) - 1)])
    with quick:
        exec(compile(snippet, "docs/groups.md", "exec", dont_inherit=True), names)
    slim = names["slim"]
    assert isinstance(slim, campfire_fx.SlimModel) and slim.verification.difference < 1e-5
    (change,) = slim.plan.groups
    assert (change.name, len(change.filters), change.after) == ("3", 4, 8) and change.before <= 32
    assert len(slim.plan.norms) == 2 and all(norm.layer for norm in slim.plan.norms)


def test_the_commands_exist() -> None:
    assert {ROOT / name for name in re.findall(r"tools/\w+\.py", PAGE)} <= set((ROOT / "tools").iterdir())
    for command in ("train", "shrink"):
        (line,) = re.findall(rf"campfire-fx {command} [^`]*", PAGE)
        help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        assert all(option in help_text for option in re.findall(r"--[\w-]+", line))
