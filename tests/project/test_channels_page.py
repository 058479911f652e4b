"""docs/channels.md: every snippet runs as it stands, and the tables name what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from campfire_fx.cost.measure import macs
from campfire_fx.sparsity.channels.scores import SCORES
from campfire_fx.sparsity.channels.targets import Target
from tests.sparse_training import IMAGE, Net, batches

PAGE = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")
FIRST, *SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the first snippet leaves, and a network that takes less time for the others."""
    found: dict[str, Any] = {}
    exec(compile(FIRST, "docs/channels.md", "exec", dont_inherit=True), found)
    assert macs(found["slim"], (found["example"],)).total <= 0.5 * macs(found["model"], (found["example"],)).total
    torch.manual_seed(0)
    return found | {"model": Net(), "example": IMAGE, "loader": batches(4), "epochs": 5}


def test_every_snippet_gives_half_of_the_network(names: dict[str, Any]) -> None:
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/channels.md", "exec", dont_inherit=True), names)
        assert macs(names["slim"], (IMAGE,)).total <= 0.5 * macs(Net(), (IMAGE,)).total
        assert names["slim"].verification.difference < 1e-5


def test_the_tables_name_every_target_and_every_score() -> None:
    keys = {field.name for field in fields(Target)}
    assert all(f"`{name}`" in PAGE for name in keys | SCORES.keys())
