"""The building: how many rooms, how much code, and what an import loads."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}  # which Python asks for
HEAVY = ("matplotlib", "networkx", "onnx", "rich", "sklearn", "sympy", "torch._dynamo", "torchvision", "typer")
ALL = "import campfire_fx; [getattr(campfire_fx, name) for name in campfire_fx.__all__]"
LOADED = f"import sys; {ALL}; print(*(name for name in {HEAVY} if name in sys.modules))"
TIMED = f"import time, torch; t = time.process_time(); {ALL}; print(time.process_time() - t)"


def python(code: str) -> str:
    # Compiled once and kept, as where it is installed.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_top_level_fits_on_a_screen() -> None:
    entries = {path.name for path in (ROOT / "campfire_fx").iterdir()} - PYTHONS
    assert len(entries) <= 14, sorted(entries)


def test_the_code_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import measure_size

    totals = measure_size.totals(measure_size.rooms(measure_size.files()))
    assert sum(totals.values()) > 10_000, "the count itself is wrong"
    assert all(totals[part] <= most for part, most in measure_size.budgets().items()), totals


# What is longer than the rules say; each may get shorter, and none may join.
LONG_FUNCTIONS = {
    "campfire_fx/app/cli/attacking.py: attack_command": 55,
    "campfire_fx/app/cli/inspecting.py: inspect_command": 70,
    "campfire_fx/app/cli/training.py: train_command": 165,
    "campfire_fx/training/sparsify.py: sparsify": 60,
}


# Imports for types alone that close a circle: (what imports, what it imports). None may join.
CIRCULAR_TYPES = [
    ("campfire_fx.sparsity.layer", "campfire_fx.sparsity.assignment"),  # whose methods are given layers
]


def library() -> dict[str, ast.Module]:
    """Return the syntax tree of every module, by its path through the link."""
    folder = ROOT / "campfire_fx"
    paths = [*folder.rglob("*.py"), *(folder / "passes").glob("*.py")]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def lines_of(function: ast.FunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    doc = function.body[0] if ast.get_docstring(function) is not None else None
    return function.end_lineno - function.lineno + 1 - (0 if doc is None else doc.end_lineno - doc.lineno + 1)


def test_files_and_functions_are_short() -> None:
    files = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in library()}
    assert {path: count for path, count in files.items() if count > 300} == {}
    functions = {
        f"{path}: {node.name}": lines_of(node)
        for path, tree in library().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(files) > 200 and len(functions) > 2000, "the count itself is wrong"
    assert {name: count for name, count in functions.items() if count > LONG_FUNCTIONS.get(name, 40)} == {}


def imports(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return which modules each imports, wherever it does: at its head, inside of functions, or for types alone."""
    found: dict[str, set[str]] = {}
    for name, tree in modules.items():
        statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        named = [
            (f"{node.module}.{alias.name}", node.module or "") if isinstance(node, ast.ImportFrom) else (alias.name, "")
            for node in statements
            for alias in node.names
        ]
        found[name] = {next((n for n in names if n in modules), name) for names in named} - {name}
    return found


def circle(modules: Mapping[str, ast.Module]) -> list[str]:
    """Return the names along one circle of imports; none where there is no circle."""
    found = imports(modules)
    for name, other in CIRCULAR_TYPES:
        found.get(name, set()).discard(other)
    try:
        graphlib.TopologicalSorter(found).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_go_in_a_circle() -> None:
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): t for path, t in library().items()}
    assert sum(map(len, imports(names).values())) > 1000, "the imports were not found"
    assert circle(names) == []


@pytest.mark.parametrize(
    "back", ["from p.a import A", "def f():\n    import p.a", "if TYPE_CHECKING:\n    from p import a"]
)
def test_a_circle_is_found_however_it_is_hidden(back: str) -> None:
    modules = {"p": ast.parse(""), "p.a": ast.parse("from p import b"), "p.b": ast.parse(back)}
    assert set(circle(modules)) == {"p.a", "p.b"}
    assert circle({**modules, "p.b": ast.parse("import torch")}) == []


def test_code_lines_leave_out_what_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from measure_size import code_lines

    source = '"""Doc."""\n\n# why\nclass A:\n    """Doc\n    of two."""\n\n'
    source += '    x = 1  # why\n    """Says x."""\n    y = """a\nb"""\n'
    assert code_lines(source) == 4


def test_an_import_loads_nothing_that_only_applications_and_reports_need() -> None:
    assert python(LOADED) == ""


def test_an_import_takes_little_more_than_that_of_torch() -> None:
    # Processor time, and the least of several: the first one compiles, and other work on the machine only adds.
    assert min(float(python(TIMED)) for _ in range(4)) < 0.3
