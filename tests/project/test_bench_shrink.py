"""The shrink benchmark runs every section on a small network, and its exit status says whether limits were kept."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/bench_shrink.py", *arguments]
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "120"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def rows(output: str, first: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│ ").split("│")] for line in output.splitlines() if f"│ {first}" in line
    ]


def test_the_quick_run_shows_every_section_that_needs_no_other_library() -> None:
    done = run("--quick", "growth", "memory", "verify")
    chain, dense = rows(done.stdout, "chain")[0], rows(done.stdout, "dense block")[0]
    assert all(float(cell) > 0 for cell in (*chain[1:4], *dense[1:4]))
    memory, proof = rows(done.stdout, "a small network")
    assert 0 < float(memory[2]) < float(memory[3])
    assert float(proof[3]) < 1e-5
    verdicts = re.findall(r"\b(pass|FAIL)\b", done.stdout)
    assert len(verdicts) == 3 and done.returncode == int("FAIL" in verdicts)


def test_the_quick_race_is_run_where_torch_pruning_is_installed() -> None:
    pytest.importorskip("torch_pruning")
    (race,) = rows(run("--quick", "models").stdout, "a small network")
    ours, theirs, ratio = (float(cell) for cell in race[1:4])
    assert ours > 0 and theirs > 0 and 0.2 < ratio / (theirs / ours) < 5
    assert race[6] == "2, 2"


def test_a_section_that_does_not_exist_is_refused() -> None:
    done = run("modles")
    assert done.returncode == 2 and "no section modles" in done.stderr
