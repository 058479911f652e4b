"""What holds for every file here: tests that can fail, modules that import, passes under one name."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import campfire_fx

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages(campfire_fx.__path__, "campfire_fx."))


def checks(code: ast.AST, known: frozenset[str] = frozenset()) -> bool:
    """Whether code asserts, expects an error, or calls what does: a helper of that name, or one that is `known` to."""
    for node in ast.walk(code):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            if name in {"raises", "warns", "fail"} | known or name.lstrip("_").startswith("assert_"):
                return True
            if any(word.arg == "check" and ast.unparse(word.value) == "True" for word in node.keywords):
                return True  # subprocess.run
    return False


def functions(source: str) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]


def checking_helpers(source: str) -> frozenset[str]:
    """Names of helpers in a file, its own and those imported from other test files, that check something."""
    found = {f.name for f in functions(source) if checks(f)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests."):
            path = ROOT.joinpath(*node.module.split(".")).with_suffix(".py")
            theirs = {f.name for f in functions(path.read_text()) if checks(f)} if path.exists() else set()
            found |= theirs & {alias.name for alias in node.names}
    return frozenset(found)


def unchecked(source: str) -> list[str]:
    """Names of the test functions in a file that cannot fail but by accident."""
    known = checking_helpers(source)
    return [f.name for f in functions(source) if f.name.startswith("test") and not checks(f, known)]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_test_can_fail(path: Path) -> None:
    source = path.read_text()
    assert "def test" in source, f"{path} holds no test"
    assert not unchecked(source), f"{path}: add an assert, or name the helper that asserts assert_..."


def test_a_test_without_assert_is_found() -> None:
    bad = "def test_nothing():\n    equal(1, 2)\n\ndef test_something():\n    assert_equal(1, 2)\n"
    assert unchecked(bad) == ["test_nothing"]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_and_says_what_it_is(name: str) -> None:
    assert importlib.import_module(name).__doc__


def test_modules_are_found_through_the_link() -> None:
    assert "campfire_fx.passes.crop_kernels" in MODULES


def test_a_folder_of_tests_mirrors_a_part_of_the_package() -> None:
    parts = {path.stem for path in (ROOT / "campfire_fx").iterdir()} | {"meta", "nets", "project", "zoo", "__pycache__"}
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} <= parts
