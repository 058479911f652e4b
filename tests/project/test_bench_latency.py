"""The latency benchmark makes slim networks that run, and prints predicted and measured time of each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from bench_latency import slim_resnet, widths_of

ROOT = Path(__file__).parents[2]


def test_a_quick_run_prints_predicted_and_measured() -> None:
    options = ["--model", "resnet18", "--size", "32", "--repeats", "1", "--random", "1"]
    command = [sys.executable, "tools/bench_latency.py", *options]
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    output = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^(dense|half|quarter|random 1) +([\d.]+) +([\d.]+) +([\d.]+) ", output, re.MULTILINE)
    assert [row[0] for row in rows] == ["dense", "half", "quarter", "random 1"]
    assert all(float(number) > 0 for row in rows for number in row[1:])
    assert float(rows[0][1]) > float(rows[1][1]) > float(rows[2][1])


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_slim_resnet_has_the_widths_that_are_drawn(name: str) -> None:
    dense = torchvision.models.get_model(name, weights=None)
    full = widths_of(dense)
    slim = slim_resnet(torchvision.models.get_model(name, weights=None), lambda width: width // 4).eval()
    assert slim(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    found = widths_of(slim)
    assert found.keys() == full.keys()
    quarters = {path: (inputs // 4, outputs // 4) for path, (inputs, outputs) in full.items()}
    assert found == {**quarters, "conv1": (3, 16), "fc": (full["fc"][0] // 4, 1000)}
