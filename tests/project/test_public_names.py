"""The public surface: what `campfire_fx` exports is what the README documents, and importing it is light."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import campfire_fx

README = (Path(__file__).parents[2] / "README.md").read_text()
SLOW_OR_OPTIONAL = {"matplotlib", "onnx", "onnxruntime", "onnxscript", "sklearn", "torchvision", "typer"}


def documented() -> set[str]:
    """The names in the first column of the README's table of public names."""
    table = README.split("## Public names", 1)[1].split("\n## ", 1)[0]
    cells = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def test_all_is_the_documented_surface() -> None:
    assert set(campfire_fx.__all__) == documented()


@pytest.mark.parametrize("name", [name for name in campfire_fx.__all__ if name != "__version__"])
def test_public_names_exist_and_explain_themselves(name: str) -> None:
    value = getattr(campfire_fx, name)
    assert inspect.getdoc(value)
    assert inspect.isclass(value) or inspect.isfunction(value)


def test_import_is_light() -> None:
    code = f"import sys, campfire_fx; print(*sorted({SLOW_OR_OPTIONAL!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == []


def test_errors_share_one_base() -> None:
    errors = [name for name in campfire_fx.__all__ if name.endswith("Error")]
    assert len(errors) >= 5
    assert all(issubclass(getattr(campfire_fx, name), campfire_fx.CampfireError) for name in errors)
