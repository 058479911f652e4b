"""The accelerator tool runs and compares with what is published; its page states every assumption."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from campfire_fx.cost import Accelerator

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
