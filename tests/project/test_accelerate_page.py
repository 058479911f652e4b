"""docs/accelerate.md: its snippet trains, shrinks and accelerates; its commands have the options they are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

import campfire_fx
from campfire_fx.app.cli import app
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


def test_the_commands_have_these_options() -> None:
    commands: Any = get_command(app)
    lines = [shlex.split(line) for line in re.findall(r"^campfire-fx .*", PAGE, re.MULTILINE)]
    assert [line[1] for line in lines] == ["train", "shrink", "accelerate"]
    for line in lines:
        known = {option for parameter in commands.commands[line[1]].params for option in parameter.opts}
        assert {word for word in line if word.startswith("--")} <= known
