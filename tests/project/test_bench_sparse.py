"""The benchmark of kernels that skip zeros runs, and its masks are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sparse_patterns import PATTERNS

from campfire_fx.kernels.compiler import find_compiler

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(PATTERNS))
@pytest.mark.parametrize("left", [0.3, 0.2, 0.1])
def test_a_pattern_leaves_what_it_says(name: str, left: float) -> None:
    torch.manual_seed(0)
    mask = PATTERNS[name]((128, 128, 3, 3), left)
    assert mask.float().mean().item() == pytest.approx(left, rel=0.15)


@pytest.mark.skipif(find_compiler() is None, reason="this machine has no C++ compiler")
def test_it_runs() -> None:
    command = [sys.executable, str(ROOT / "tools" / "bench_sparse.py"), "--quick"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(name in printed for name in PATTERNS) and "GF/s" in printed
