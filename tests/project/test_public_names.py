"""The public surface: what `campfire_fx` exports is what docs/reference.md documents, and importing it is light."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import campfire_fx

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
SLOW_OR_OPTIONAL = {"matplotlib", "onnx", "onnxruntime", "onnxscript", "sklearn", "torchvision", "typer"}


def python(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def documented() -> set[str]:
    """The names in the first column of the table of public names."""
    table = REFERENCE.split("## Public names", 1)[1].split("\n## ", 1)[0]
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
    every = "[getattr(campfire_fx, name) for name in campfire_fx.__all__]"
    code = f"import sys, campfire_fx; {every}; print(*sorted({SLOW_OR_OPTIONAL!r} & set(sys.modules)))"
    assert python(code) == []


def test_names_are_imported_when_they_are_asked_for() -> None:
    assert python("import sys, campfire_fx; print('torch' in sys.modules)") == ["False"]
    assert python("import campfire_fx; print(campfire_fx.sparsity.FILTER.name)") == ["filter"], "and folders"
    assert set(campfire_fx._WHERE) < set(campfire_fx.__all__) <= set(dir(campfire_fx))
    with pytest.raises(AttributeError, match="module 'campfire_fx' has no attribute 'shrnk'"):
        _ = campfire_fx.shrnk


def test_functions_are_not_hidden_by_folders_of_their_names() -> None:
    code = "import campfire_fx.shrink.slim, campfire_fx.export.api; from campfire_fx import shrink; import campfire_fx"
    assert python(f"{code}; print(campfire_fx.shrink is shrink, callable(shrink), callable(campfire_fx.export))") == [
        "True", "True", "True"
    ]  # fmt: skip


def test_errors_share_one_base() -> None:
    errors = [name for name in campfire_fx.__all__ if name.endswith("Error")]
    assert len(errors) >= 5
    assert all(issubclass(getattr(campfire_fx, name), campfire_fx.CampfireError) for name in errors)
