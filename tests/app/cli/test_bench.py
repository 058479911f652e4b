"""`campfire-fx bench`: a table, JSON and CSV of files side by side."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from campfire_fx.app.runs.folder import read_run
from campfire_fx.app.runs.report import write_report
from campfire_fx.base.errors import ReportError
from campfire_fx.export import export
from tests.app.runs.small_run import make_run

EAGER = ("--runtime", "torch eager", "--repeats", "2")


def test_files_stand_side_by_side(run, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    for name in ("a.pt", "b.pt"):
        export(net, tmp_path / name, torch.randn(2, 3, 8, 8))
    result = run("bench", "a.pt", "b.pt", "--size", "12", "--batch", "2", "--csv", "times.csv", *EAGER)
    assert result.exit_code == 0, result.output
    assert "a.pt" in result.stdout and "b.pt" in result.stdout and "One call with 2x3x12x12, 1 thread" in result.stdout
    assert (tmp_path / "times.csv").read_text().count("torch eager") == 2
    result = run("bench", ".", "--json", "--example", "1x3x9x9", "--threads", "all", *EAGER)
    facts = json.loads(result.stdout)
    assert [row["name"] for row in facts["rows"]] == ["a.pt", "b.pt"] and facts["shapes"] == [[1, 3, 9, 9]]
    assert facts["threads"] >= 1 and all(row["latency"]["repeats"] == 2 for row in facts["rows"])


def test_what_is_wrong_is_one_line(run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (
            ("it.onnx", "--option", "a=1"),
            "--model and --option apply to checkpoints, run folders and models given by name.",
        ),
        (("empty",), "Error: cannot time empty: it holds no file that a runtime opens. Give a run folder, or files."),
        (("it.onnx",), "Error: cannot time it.onnx: there is no such file. Check the path."),
        (("it.onnx", "--size", "a"), "'a' of --size is not the size of an image. Write 224, or 224x320."),
        (("it.onnx", "--threads", "0"), "'0' of --threads is no number of threads. Write 1, 4, or all."),
    ):
        result = run("bench", *arguments)
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.replace("│", " ").split())


def test_the_times_of_a_run_are_kept_and_part_of_its_report(run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = make_run(tmp_path / "digits")
    result = run("bench", folder, "--batch", "3", *EAGER)
    assert result.exit_code == 0, result.output
    assert (
        "One call with 3x1x16x16, 1 thread" in result.stdout and f"Written: {folder / 'bench.json'}." in result.stdout
    )
    write_report(dataclasses.replace(read_run(folder), slim=None, sparse=None), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Runtimes</h2>" in page and '<td class="text">sparse.ckpt</td><td class="text">torch eager' in page
    (folder / "bench.json").write_text("[]")
    with pytest.raises(
        ReportError, match=r"Times at .*bench\.json: they cannot be read .* Run campfire-fx bench again"
    ):
        read_run(folder)
