"""The comparison tool: it runs, it goes on where it was stopped, and its numbers are what they are called."""

from __future__ import annotations

import csv
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from campfire_fx.app.train.tally import pack

ROOT = Path(__file__).parents[2]
COMMAND = "--data digits --image-size 8 --epochs 1 --era 0 1 --batch 64 --methods ck 2:4 --sparsities 0.6 --seeds 0"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("run_comparison")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("comparison_tables")


@pytest.mark.slow
def test_a_comparison_that_was_stopped_goes_on(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(more: str = "") -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["run_comparison.py", *COMMAND.split(), *more.split(), "--output", str(tmp_path)]
        )
        status = tool.main()
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    names = ["dense-seed0", "ck-60-seed0", "2of4-50-seed0", "ck-60-slim-from-scratch-seed0"]
    names.append("2of4-50-slim-from-scratch-seed0")
    status, text = call("--list")
    assert status == 0 and "0 of 5 runs done, 5 left" in text and text.split()[-5:] == names
    assert not list(tmp_path.iterdir())

    done = tool.execute
    monkeypatch.setattr(tool, "execute", lambda run, *rest: stop() if run.method == "2:4" else done(run, *rest))
    status, text = call()
    assert status == 130 and "Stopped. Give the command again" in text
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == sorted(names[:2])
    assert "Missing (3 of 5 runs): 2of4-50-seed0" in (tmp_path / "comparison.md").read_text()
    monkeypatch.setattr(tool, "execute", done)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}

    status, text = call()
    assert status == 0 and "5 of 5 runs done, 0 left" in text
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what had finished was run again"
    check_table(tmp_path, names)

    status, text = call("--epochs 2")
    assert status == 2 and "its recipe was" in text and "Give another --output" in text
    status, text = call("--methods ck+er")
    assert status == 2 and "there is no budget 'er'. Give ck+erk, or ck." in text
    status, text = call("--sparsities 60")
    assert status == 2 and "60.0 is outside [0, 1)" in text


def stop() -> None:
    raise KeyboardInterrupt


def check_table(folder: Path, names: list[str]) -> None:
    with (folder / "comparison.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["dense", "ck 60 %", "2:4 50 %", "ck 60 %, slim from scratch", "2:4 50 %, slim from scratch"]
    assert float(rows["ck 60 %"]["true"]) == pytest.approx(0.6, abs=0.01)
    assert float(rows["2:4 50 %"]["true"]) == pytest.approx(0.5, abs=0.01)
    dense, slim, scratch = (rows[name] for name in ("dense", "ck 60 %", "ck 60 %, slim from scratch"))
    assert slim["parameters"] == scratch["parameters"] and int(slim["nonzero"]) < 0.5 * int(dense["parameters"])
    assert float(slim["difference"]) < 1e-5
    assert float(slim["step_ratio"]) > 0.3 and 0.9 < float(slim["peak_ratio"]) < 1.5
    assert float(dense["step_ratio"]) == float(dense["peak_ratio"]) == 1
    assert float(rows["2:4 50 %, slim from scratch"]["latency_ratio"]) == 1, "it is the dense network"
    assert rows["2:4 50 %, slim from scratch"]["same_as"] == "1", "2:4 kills no channel: its widths are the dense ones"
    assert 0 < float(slim["fgsm_8/255"]) <= float(slim["fgsm_2/255"]) <= float(slim["accuracy"])
    markdown = (folder / "comparison.md").read_text()
    assert "Missing" not in markdown and "| 2:4 50 %, slim from scratch (= dense) | 0 |" in markdown
    assert str(folder) not in markdown
    facts = [json.loads((folder / f"{name}.json").read_text()) for name in names]
    assert all(math.isfinite(loss) for fact in facts for loss in fact["losses"])
    for fact in facts:
        assert len(bin(int(fact["right"], 16))) - 3 == fact["images"] == 449
        assert bin(int(fact["right"], 16)).count("1") - 1 == round(fact["accuracy"] * 449)


def test_intervals_over_seeds_and_over_images(tables: Any) -> None:
    assert tables.spread([0.5]) == tables.Spread(0.5, None)
    two = tables.spread([0.70, 0.72])
    assert two.mean == pytest.approx(0.71)
    assert two.half == pytest.approx(12.706 * 0.01, rel=1e-6)  # t(1) times the standard error of two
    assert str(two) == "71.00 ± 12.71"
    right = {"right": pack(torch.tensor([True, True, False, True]))}
    other = {"right": pack(torch.tensor([True, False, False, True]))}
    mean, half = tables.paired([(right, other)])
    assert mean == pytest.approx(25) and half == pytest.approx(100 * 1.96 * 0.5 / 2, rel=1e-4)
    assert tables.paired([(right, other), (other, right)]) == (0, 0)


def test_dense_comes_first_and_a_fixed_sparsity_runs_once(tool: Any) -> None:
    labels = [run.label for run in tool.plan(["ck", "2:4"], [0.6, 0.8], [0, 1])]
    assert labels[:4] == ["dense", "ck 60 %", "2:4 50 %", "ck 80 %"]
    assert labels[4:7] == [f"{label}, slim from scratch" for label in labels[1:4]]
    assert labels[7:] == labels[:7], "the second seed begins when the first has finished"


def test_a_method_can_have_a_budget(tool: Any) -> None:
    runs = importlib.import_module("comparison_runs")
    (_, run) = tool.plan(["combined+erk"], [0.7], [0], scratch=False)
    budget = runs.Budget("digits", "resnet8", (1, 8, 8), 10, tool.recipe_for("digits", epochs=2))
    layers = {row.name: row for row in runs.sparsified(budget.build(), run, budget).finalize().sparsity().layers}
    small, large = layers["layer1.0.conv1"].true, layers["layer3.0.conv2"].true
    assert small < 0.6 and large > 0.7
    assert run.name == "combined+erk-70-seed0"


def test_runs_of_before_a_recipe_had_a_value_are_of_its_default(tool: Any) -> None:
    budget = tool.Budget("digits", "resnet8", (1, 8, 8), 10, tool.recipe_for("digits", epochs=2))
    old = budget.to_facts()
    del old["recipe"]["optimizer"], old["recipe"]["drops"]
    assert tool.Budget.completed(old) == budget.to_facts()
    assert tool.Budget.completed(old | {"recipe": old["recipe"] | {"rate": 0.5}}) != budget.to_facts()
