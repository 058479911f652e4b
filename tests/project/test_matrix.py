"""The matrix of versions: what the oldest are, which cells are run again, and what the exit status says."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = {version: Path("python") for version in ("3.10", "3.11", "3.12")}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tools")
    module = importlib.import_module("run_matrix")
    monkeypatch.setattr(module, "CACHE", tmp_path / ".matrix")
    return module


@pytest.fixture
def runs(tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The cells whose tests were run, in a matrix that installs and tests nothing; newest-3.12 is red."""
    done: list[str] = []

    def ran(cell: str, home: Path, files: str, options: Any, out: Any) -> Any:
        done.append(cell)
        failed = int(cell == "newest-3.12")
        return tool.Result(cell, "red" if failed else "green", files, {}, passed=5, failed=failed)

    monkeypatch.setattr(tool.pythons, "at_hand", lambda: PYTHONS)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "fingerprint", lambda options: f"these files {options}")
    monkeypatch.setattr(tool, "install", lambda cell, *_: cell != "lock-3.11")
    monkeypatch.setattr(tool, "tested", ran)
    monkeypatch.setattr(tool, "versions_in", lambda home: {"torch": "2.11.0"})
    return done


def test_the_oldest_are_the_lower_ends_of_what_users_install(tool: Any) -> None:
    extras = {"train": ["Scikit_Learn>=1.4", "torchvision>=0.26,<2"], "dev": ["demo[train]", "pytest>=8"]}
    project = {"name": "demo", "dependencies": ["torch>=2.11", "rich"], "optional-dependencies": extras}
    assert tool.oldest(project) == ["scikit-learn==1.4", "torch==2.11", "torchvision==0.26"]


def test_each_cell_runs_once_on_the_same_files(tool: Any, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cells = ("--cells", "oldest-3.10", "newest-3.12")
    assert tool.main(cells) == 1
    assert tool.main(cells) == 1 and runs == ["oldest-3.10", "newest-3.12"]
    assert tool.main(("--cells", "oldest-3.10")) == 0 and len(runs) == 2
    assert tool.main((*cells, "--", "-k", "shrink")) == 1 and len(runs) == 4
    assert tool.main(("--again", "--cells", "oldest-3.10")) == 0 and len(runs) == 5
    assert "2.11.0" in capsys.readouterr().out


def test_what_cannot_be_installed_is_red_and_tried_again(tool: Any, runs: list[str]) -> None:
    assert tool.main(("--cells", "lock-3.11")) == tool.main(("--cells", "lock-3.11")) == 1
    assert runs == []
    tool.install = lambda *_: True
    assert tool.main(("--cells", "lock-3.11")) == 0 and runs == ["lock-3.11"]


def test_by_itself_it_runs_the_oldest_on_the_lowest_python_alone(tool: Any, runs: list[str]) -> None:
    tool.main(())
    others = [f"{kind}-{python}" for kind in ("lock", "newest") for python in PYTHONS]
    assert runs == ["oldest-3.10", *(cell for cell in others if cell != "lock-3.11")]


def test_the_counts_are_those_of_pytest(tool: Any, tmp_path: Path) -> None:
    tool.CACHE.mkdir()
    options = argparse.Namespace(workers="1", pytest=["tests/report/test_intervals.py"])
    with (tmp_path / "log").open("w") as out:
        result = tool.tested("lock-x", Path(sys.prefix), "", options, out)
    assert result.state == "green" and result.passed > 0 and result.failed == result.skipped == 0


def test_a_python_at_hand_is_one_that_runs(tool: Any) -> None:
    found = tool.pythons.at_hand()
    assert "{}.{}".format(*sys.version_info) in found
    assert all(path.exists() for path in found.values())
