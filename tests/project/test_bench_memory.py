"""The memory benchmark runs, and SWAT keeps less than dense training does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quick_run_prints_what_is_kept_and_the_peaks() -> None:
    command = [sys.executable, "tools/bench_memory.py", "--quick", "--recompute"]
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    output = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    ratios = {}
    for name, rest in re.findall(r"^ +(dense|\d+%(?: recomputed)?) {2,}(\S.*)$", output, re.MULTILINE):
        ratios[name] = [float(ratio) for ratio in re.findall(r"\((\d+\.\d+)\)", rest)]
    assert list(ratios) == ["dense", "50%", "50% recomputed", "90%", "90% recomputed"]
    saved = {name: values[0] for name, values in ratios.items()}
    assert saved["dense"] == 1 > saved["50%"] > saved["90%"] > saved["90% recomputed"]
    assert all(len(values) == 5 for values in ratios.values())
    assert ratios["90%"][-1] < ratios["50%"][-1] < 1  # of the weights
