"""The building: how many rooms, how much code, and what an import loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}  # which Python asks for
HEAVY = ("matplotlib", "networkx", "onnx", "rich", "sklearn", "sympy", "torch._dynamo", "torchvision", "typer")
LOADED = f"import sys, campfire_fx; print(*(name for name in {HEAVY} if name in sys.modules))"
TIMED = "import time, torch; t = time.process_time(); import campfire_fx; print(time.process_time() - t)"


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_top_level_fits_on_a_screen() -> None:
    entries = {path.name for path in (ROOT / "campfire_fx").iterdir()} - PYTHONS
    assert len(entries) <= 12, sorted(entries)


def test_the_code_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import measure_size

    totals = measure_size.totals(measure_size.rooms(measure_size.files()))
    assert sum(totals.values()) > 10_000, "the count itself is wrong"
    assert all(totals[part] <= most for part, most in measure_size.budgets().items()), totals


def test_code_lines_leave_out_what_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from measure_size import code_lines

    source = '"""Doc."""\n\n# why\nclass A:\n    """Doc\n    of two."""\n\n'
    source += '    x = 1  # why\n    """Says x."""\n    y = """a\nb"""\n'
    assert code_lines(source) == 4


def test_an_import_loads_nothing_that_only_applications_and_reports_need() -> None:
    assert python(LOADED) == ""


def test_an_import_takes_little_more_than_that_of_torch() -> None:
    # Processor time, and the least of several: other work on the machine only adds.
    assert min(float(python(TIMED)) for _ in range(3)) < 0.3
