"""The benchmarks of training steps run, and print one row for each step, or each regime."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quick_run_prints_medians_and_ratios() -> None:
    command = [sys.executable, "tools/bench_step.py", "--quick"]
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    output = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^(dense|campfire_fx|torch\.nn\.utils\.prune) +([\d.]+) +([\d.]+)$", output, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["dense", "campfire_fx", "torch.nn.utils.prune"]
    assert all(float(median) > 0 and float(ratio) > 0 for _, median, ratio in rows)
    assert float(rows[0][2]) == 1
    assert re.search(r"masks moved \(once an epoch\): \d+ ms", output)
    inside = re.search(r"^inside masks: ([\d.]+) ms a step, ([\d.]+)% of the dense step$", output, re.MULTILINE)
    averaged = re.search(r"^averaged over an era of epochs of 1,281,167 images: ([\d.]+)%$", output, re.MULTILINE)
    assert inside is not None
    assert averaged is not None
    assert float(averaged[1]) >= float(inside[2]) > 0


def test_the_methods_are_timed_beside_the_dense_step() -> None:
    names = ["swat-u", "rigl", "taylor", "thinet"]  # of which two gather from data
    command = [sys.executable, "tools/bench_methods.py", "--batch", "4", "--size", "8", "--rounds", "2"]
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command += ["--regimes", ",".join(names)]
    output = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^([a-z-]+) +([\d.]+) +[\d.]+ - +[\d.]+ +([\d.]+)% +[\d.]+$", output, re.MULTILINE)
    assert [name for name, _, _ in rows] == names
    assert all(float(ratio) > 0 and float(hooks) > 0 for _, ratio, hooks in rows)
