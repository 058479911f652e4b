"""docs/columns.md: its snippet prunes columns, shrinks and proves it; the benchmark it names is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import campfire_fx

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")


def test_the_snippet_gathers_the_columns_that_its_regime_leaves() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    with patch("campfire_fx.passes.gather_columns.least_times", return_value=(1.0, 0.5)):
        exec(compile(snippet, "docs/columns.md", "exec", dont_inherit=True), names)
    slim = names["slim"]
    assert isinstance(slim, campfire_fx.SlimModel) and slim.verification.difference < 1e-5
    (change,) = slim.plan.columns
    assert change.name == "2" and change.after == 29 < change.before == slim.get_submodule("0").out_channels * 9


def test_the_commands_are_of_tools_that_exist() -> None:
    assert {ROOT / name for name in re.findall(r"tools/\w+\.py", PAGE)} <= set((ROOT / "tools").iterdir())
