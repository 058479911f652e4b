"""docs/after.md: every snippet works on a slim network as it stands, and changes little but what it says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from campfire_fx.app.train.networks import resnet8
from tests.project.core_ml import run_package

PAGE = (Path(__file__).parents[2] / "docs" / "after.md").read_text(encoding="utf-8")
FIRST, *SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def heading(snippet: str) -> str:
    """The heading that a snippet stands under."""
    return re.findall(r"^## (.*)$", PAGE[: PAGE.index(snippet)], re.MULTILINE)[-1]


@pytest.mark.filterwarnings("ignore")  # of torchao and coremltools
@pytest.mark.parametrize("snippet", SNIPPETS, ids=heading)
def test_it_works_on_a_slim_network(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in set(re.findall(r"^(?:import|from) (\w+)", snippet, re.MULTILINE)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    images = torch.randn(16, 3, 16, 16)
    loader = DataLoader(TensorDataset(images, torch.zeros(16, dtype=torch.int64)), 8)
    model = resnet8()
    for x, _ in loader:
        model(x)  # statistics
    names: dict[str, Any] = {"model": model.eval(), "loader": loader, "images": images, "__name__": "page"}
    exec(compile(FIRST, "docs/after.md", "exec", dont_inherit=True), names)
    before = names["slim"](images).detach()
    exec(compile(snippet, "docs/after.md", "exec", dont_inherit=True), names)
    if "coremltools" in snippet:  # predicts on macOS alone
        names["scores"], before = run_package("slim.mlpackage", images[:1]), before[:1]
    if "scores" not in names:
        assert not torch.equal(names["slim"].eval()(images), before)  # other statistics
        return
    scores = torch.as_tensor(names["scores"]).detach()
    apart = float((scores - before).norm() / before.norm())
    limit = 0.01 if "openvino" in snippet or "coremltools" in snippet else 0.2
    assert apart < limit, f"{heading(snippet)}: {apart:.3f} of the output is other"
    assert apart > 0


def test_every_way_has_a_snippet() -> None:
    ways = ("update_norms", "quantize_static", "convert_pt2e", "openvino", "coremltools")
    assert all(any(way in snippet for snippet in SNIPPETS) for way in ways)
