"""What is private in torch and in Python is used in one place, and is there."""

from __future__ import annotations

import ast
import functools
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from campfire_fx.base.compat import PRIVATE

ROOT = Path(__file__).parents[2]
FILES = sorted({*ROOT.glob("campfire_fx/**/*.py"), *ROOT.glob("passes/*.py")} - {*ROOT.glob("campfire_fx/passes/*.py")})
PLACE = ROOT / "campfire_fx" / "base" / "compat.py"
NAMESPACE = {"torch": torch, "sys": sys, "random": random, "functools": functools}


@pytest.mark.parametrize("expression", PRIVATE)
def test_it_is_there(expression: str) -> None:
    __import__("torch._subclasses.fake_tensor")
    try:
        eval(expression, NAMESPACE)
    except AttributeError as error:
        pytest.fail(f"{error}. It {PRIVATE[expression]}: find another way in {PLACE.name}.")


def private(tree: ast.AST) -> Iterator[str]:
    """Names with an underscore that are read from something, or imported, as far as they are not dunder names."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        yield from (name for name in names if name.startswith("_") and not name.startswith("__"))


def of_our_own(tree: ast.AST) -> Iterator[str]:
    """Names that a file defines: functions, classes, fields, and what is assigned."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.ClassDef | ast.Constant) and isinstance(getattr(node, "value", None), str):
            yield node.value


# NamedTuple's methods are public for all their underscores; the overridden ones are in PRIVATE.
PUBLIC = {"_make", "_fields", "_replace", "_asdict", "_load_from_state_dict", "_save_to_state_dict"}


def test_it_is_used_in_one_place() -> None:
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    own = {name for tree in trees.values() for name in of_our_own(tree)} | PUBLIC
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in trees.items()
        for name in private(tree)
        if path != PLACE and name not in own
    }
    assert not found, "use a public name, or put it into base/compat.py"


def test_what_is_private_is_found() -> None:
    code = ast.parse("import torch\nfrom torch._ops import OpOverload\ntorch.relu(x)._version\nself.__dict__")
    assert list(private(code)) == ["_ops", "_version"]
