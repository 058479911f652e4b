"""docs/notebooks: their cells run one after the other, and what they hold of former runs is small and whole."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import campfire_fx

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
NEEDS = {"sklearn", "onnxruntime", "efficientnet_lite_pytorch"}


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells of code, in order."""
    book = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["deploy", "shrink_pretrained", "train_sparse_on_digits"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_cells_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ["".join(cell["source"]) for cell in cells(path)]
    for package in NEEDS & set(re.findall(r"^(?:from|import) (\w+)", "\n".join(code), re.MULTILINE)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(code):
        exec(compile(cell, f"{path.name}, cell {number}", "exec", dont_inherit=True), names)
    slim = names["slim"]
    assert isinstance(slim, campfire_fx.SlimModel) and slim.verification.difference < 1e-5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_shows_is_of_a_whole_run(path: Path) -> None:
    shown = [output for cell in cells(path) for output in cell["outputs"]]
    assert shown and not [output for output in shown if output["output_type"] == "error"]
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    assert path.stat().st_size < 40_000
    assert "/home" not in path.read_text(encoding="utf-8") and "/work" not in path.read_text(encoding="utf-8")
