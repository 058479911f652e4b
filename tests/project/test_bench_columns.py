"""The benchmark of columns runs on small layers, and says of each what became of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/bench_columns.py", *arguments]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "140"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_quick_run_times_every_pattern() -> None:
    done = run("--quick", "--compressions", "4", "15")
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in done.stdout.splitlines()]
    rows = [line for line in lines if line[0] in ("plain", "grouped", "together")]
    assert len(rows) == 3 * 5
    for layer, pruned, compression, im2col, dense, slim, ratio, what in rows:
        assert min(float(im2col), float(dense), float(slim), float(ratio.removesuffix("x"))) > 0
        assert what and (layer == "together" or compression.endswith("x"))
        if pruned == "1x3" and layer != "together":
            assert compression == "3.0x" and what == "cropped to 1x3"


def test_a_compression_that_is_none_is_refused() -> None:
    done = run("--compressions", "0.5")
    assert done.returncode == 2 and "more than 1" in done.stderr
