"""docs/accelerate.md: its snippet trains, shrinks and accelerates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import campfire_fx
from tests.acceleration.forced import needs_compiler, prefer

PAGE = (Path(__file__).parents[2] / "docs" / "accelerate.md").read_text(encoding="utf-8")


@needs_compiler
def test_the_snippet_gives_a_model_that_skips_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch)
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(snippet, "docs/accelerate.md", "exec", dont_inherit=True), names)
    fast = names["fast"]
    assert isinstance(fast, campfire_fx.AcceleratedModel)
    assert "zeros skipped" in {layer.form for layer in fast.acceleration.layers}
    expected = names["slim"].eval()(torch.ones(2, 1, 16, 16))
    torch.testing.assert_close(fast(torch.ones(2, 1, 16, 16)), expected.detach(), rtol=1e-4, atol=1e-5)
    assert names["outputs"].shape == (4, 10)
