"""SWAT's published FLOP reductions, to the digit printed; and those that its formula does not give."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from campfire_fx.cost import Work, work_of

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("swat_flops", ROOT / "tools/swat_flops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["swat_flops"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


TOOL = _load()
UNIFORM = [row for row in TOOL.PUBLISHED if row.method != "swat-erk" and row.network in TOOL.OVERHEAD]
ERK = [row for row in TOOL.PUBLISHED if row.method == "swat-erk" and row.network in TOOL.OVERHEAD]
CIFAR = [row for row in TOOL.PUBLISHED if row.network not in TOOL.OVERHEAD]


@pytest.fixture(scope="module")
def works() -> dict[str, Work]:
    with torch.device("meta"):
        networks = {
            name: (make(), torch.zeros(1, 3, side, side, device="meta")) for name, (make, side) in TOOL.NETWORKS.items()
        }
    return {name: work_of(network, (image,)) for name, (network, image) in networks.items()}


@pytest.mark.parametrize("row", UNIFORM, ids=str)
def test_published_reductions_of_training(works: dict[str, Work], row) -> None:
    training = TOOL.reductions(works[row.network], row, TOOL.OVERHEAD[row.network])[1]
    assert f"{training:.1f}" == f"{row.training:.1f}"


@pytest.mark.parametrize("row", [row for row in UNIFORM if row.inference], ids=str)
def test_published_reductions_of_inference_with_nothing_fitted(works: dict[str, Work], row) -> None:
    assert f"{TOOL.reductions(works[row.network], row)[0]:.1f}" == f"{row.inference:.1f}"


def test_the_fitted_overheads_are_what_the_digits_leave(works: dict[str, Work]) -> None:
    for name in TOOL.OVERHEAD:
        low, high = TOOL.fitting_overheads(works[name], [row for row in UNIFORM if row.network == name])
        assert low < TOOL.OVERHEAD[name] < high < 1.05 * low


def test_published_erk_is_not_what_its_formula_gives(works: dict[str, Work]) -> None:
    found = [TOOL.reductions(works[row.network], row)[0] for row in ERK]
    assert [f"{value:.1f}" for value in found] == ["58.6", "75.8"]
    assert [row.inference for row in ERK] == [58.9, 77.8]


def test_cifar_networks_with_nothing_fitted(works: dict[str, Work]) -> None:
    found = {(row.network, row.method): TOOL.reductions(works[row.network], row)[1] - row.training for row in CIFAR}
    exact = {key for key, off in found.items() if abs(off) < 0.05}
    assert exact == {("WRN-16-8", "swat-u"), ("DenseNet-121", "swat-u")}
    near = {key for key, off in found.items() if 0.05 <= abs(off) < 0.3}
    assert near == {("WRN-16-8", "swat-erk"), ("DenseNet-121", "swat-erk"), ("VGG-16", "swat-u")}


def test_the_page_shows_what_the_tool_prints() -> None:
    command = [sys.executable, "tools/swat_flops.py"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "flops.md").read_text(encoding="utf-8")
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(TOOL.PUBLISHED)
    assert "\n".join(rows) in page
