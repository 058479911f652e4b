"""What is known about operations stands in the rule table: no other file tells operations apart by their names."""

from __future__ import annotations

import ast
import operator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from campfire_fx.analysis.rules import table

ROOT = Path(__file__).parents[2]
RULES = "campfire_fx/analysis/rules"
METHODS = frozenset(target for target in table() if isinstance(target, str)) - {"cpu", "cuda"}  # kinds of devices too
CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)
# Calls that compare or collect what they are given. Every other call runs an operation, or puts it into a graph.
COLLECTING = ("isinstance", "issubclass", "frozenset", "set", "fromkeys", "dict", "find_nodes")
ALLOWED = {
    "campfire_fx/base/compat.py": "what is private in torch",
    "campfire_fx/base/location.py": "how Python writes its operators",
    "campfire_fx/export/expressions.py": "how Python writes its operators",
    "campfire_fx/export/statements.py": "what is written out where it is read: x[3]",
    "campfire_fx/export/layers.py": "arguments of constructors that a layer does not keep under their names",
    "campfire_fx/export/program_file.py": "which names a stored formula of sizes may have",
    "campfire_fx/export/program.py": "why torch.export fixes a size",
    "campfire_fx/export/written_out.py": "functions written out in others",
    "campfire_fx/capture/from_onnx/layers.py": "which layer stands for an operator of ONNX",
    "campfire_fx/capture/from_onnx/pooling.py": "which function stands for an operator of ONNX",
    "campfire_fx/capture/origins.py": "sizes of results as formulas over the sizes of what is read",
    "campfire_fx/capture/sizes.py": "answers to questions about shapes as formulas",
    "campfire_fx/capture/questions.py": "which comparisons of sizes Python asks for",
    "campfire_fx/capture/formulas.py": "formulas over numbers",
    "campfire_fx/capture/differences.py": "formulas over numbers: which sizes must differ",
    "campfire_fx/capture/alternatives.py": "formulas over numbers: what a guard reads",
    "campfire_fx/capture/guards.py": "formulas over numbers: the opposite of a comparison",
    "campfire_fx/capture/interception.py": "which functions of Python's a trace puts its own in the place of",
    "campfire_fx/capture/numpy_numbers.py": "numpy's names of functions of numbers",
    "campfire_fx/capture/example.py": "which layer's weight says how large an input is",
    "campfire_fx/cost/layers.py": "whose multiplications are counted: subclasses too, which have no row",
    "campfire_fx/kernels/convolve.py": "what kernels compute last, where torch does it; the room lies below the rules",
    "campfire_fx/layers/dispatch.py": "questions that are asked anew of an input; the room lies below the rules",
    "campfire_fx/layers/masked.py": "the masked class of each layer; the room lies below the rules",
    "campfire_fx/layers/dense_weights/relu.py": "the class that stands for nn.ReLU; the room lies below the rules",
    "campfire_fx/sparsity/channels/gathering.py": "how the input of a layer lies; the room lies below the rules",
    "campfire_fx/sparsity/reconstruction.py": "how a layer's input becomes a matrix; the room lies below the rules",
    "campfire_fx/base/doubled.py": "float() gives float64 while a model is compared in float64",
    "campfire_fx/app/train/ends.py": "which layers are a network's first and its classifier, and a new classifier",
    "campfire_fx/app/train/models.py": "surgery on the first layer of torchvision's networks",
}
"""Files that may name operations, each with the reason: they hold a table of another kind of fact, or run them."""


def files() -> list[str]:
    found = [*ROOT.glob("campfire_fx/**/*.py"), *ROOT.glob("passes/*.py")]
    names = (path.relative_to(ROOT).as_posix() for path in found if "campfire_fx/passes" not in path.as_posix())
    return sorted(name for name in names if not name.startswith(f"{RULES}/"))


def _namespace(tree: ast.Module) -> dict[str, Any]:
    """Return what a file imports of torch and of Python's operators."""
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        home = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if any(name.partition(".")[0] in ("torch", "operator", "math") for name in [*names, home]):
            exec(ast.unparse(node), known)
    return known


def is_operation(value: Any) -> bool:
    """Whether a value is something that a graph can call: a layer, or a function of tensors or numbers."""
    if isinstance(value, type):
        return issubclass(value, nn.Module) and value not in CONTAINERS and value.__module__.startswith("torch.nn.mod")
    named = getattr(value, "__name__", "__")
    if named.startswith("__"):
        return False
    homes = (torch, F, operator, torch.Tensor)
    try:
        return value in table() or (callable(value) and any(getattr(home, named, None) is value for home in homes))
    except TypeError:  # it cannot be looked up
        return False


class _Names(ast.NodeVisitor):
    """Collects where operations are named but neither run nor put into a graph."""

    def __init__(self, tree: ast.Module) -> None:
        self.known = _namespace(tree)
        self.found: list[tuple[int, str]] = []

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(node.func, ast.Attribute) and name == "split" and isinstance(node.func.value, ast.Constant):
            self._words(node, str(node.func.value.value).split())
        elif isinstance(node.func, ast.Attribute):
            self._below(node.func.value)
        for child in given:
            if name in COLLECTING or not isinstance(child, ast.Attribute):
                self.visit(child)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        parts = [part for side in sides for part in ast.walk(side)]
        texts = [part.value for part in parts if isinstance(part, ast.Constant)]
        if any(isinstance(part, ast.Attribute) and part.attr == "target" for part in parts):
            self.found += [(node.lineno, text) for text in texts if text in METHODS]
        self.generic_visit(node)

    def _collection(self, node: Any, items: list[ast.expr | None]) -> None:
        self._words(node, [item.value if isinstance(item, ast.Constant) else None for item in items])
        for item in (*items, *getattr(node, "values", ())):
            if item is not None:
                self.visit(item)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        makes = len(node.elts) == 3 and isinstance(node.elts[2], ast.Dict)  # function, arguments, named arguments
        self._collection(node, list(node.elts[makes:]))

    def visit_Set(self, node: ast.Set) -> None:
        self._collection(node, list(node.elts))

    def visit_List(self, node: ast.List) -> None:
        self._collection(node, list(node.elts))

    def visit_Dict(self, node: ast.Dict) -> None:
        self._collection(node, list(node.keys))

    def _words(self, node: ast.AST, texts: list[Any]) -> None:
        if len(texts) > 1 and all(text in METHODS for text in texts):
            self.found += [(node.lineno, text) for text in texts]  # type: ignore[attr-defined]

    def _below(self, node: ast.expr) -> None:
        """Look at what a method is called on, but for the modules in which functions are found."""
        if not isinstance(node, (ast.Name, ast.Attribute)):
            self.visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        try:
            value = eval(ast.unparse(node), {"__builtins__": {}}, dict(self.known))
        except Exception:  # noqa: BLE001  it is no name of an import
            self.generic_visit(node)
            return
        if is_operation(value):
            self.found.append((node.lineno, ast.unparse(node)))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """Annotations are no facts."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for child in node.body:  # what it inherits it is
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for child in (*node.args.defaults, *node.body):
            self.visit(child)


def named_in(source: str) -> list[tuple[int, str]]:
    """Return the lines and names of operations that a file tells apart."""
    tree = ast.parse(source)
    names = _Names(tree)
    names.visit(tree)
    return sorted(set(names.found))


@pytest.mark.parametrize("name", files())
def test_no_other_file_tells_operations_apart(name: str) -> None:
    found = named_in((ROOT / name).read_text())
    if name in ALLOWED:
        assert found, f"{name} names no operation any more: take it off the list"
    else:
        assert not found, f"{name}: {found}. Say it in the rows of {RULES}, as a kind or another fact."


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import torch\nif node.target is torch.cat: pass", ["torch.cat"]),
        ("from torch import nn\nisinstance(module, (nn.Conv2d, nn.Sequential))", ["nn.Conv2d"]),
        ("import torch.nn.functional as F\nKNOWN = {F.relu: 1}", ["F.relu"]),
        ("import operator as o\nSUMS = (o.add, o.iadd)", ["o.add", "o.iadd"]),
        ("_SPLITS = ('split', 'chunk')", ["chunk", "split"]),
        ("_SPLITS = frozenset('split chunk'.split())", ["chunk", "split"]),
        ("if node.target == 'view': pass", ["view"]),
        ("import torch\ny = torch.cat([x, x]).sum(1)", []),
        ("import torch\ngraph.call_function(torch.cat, ([x, y], 1))", []),
        ("from torch import nn\ndef f(x: nn.Conv2d) -> nn.Linear: ...\nclass Mine(nn.Conv2d): ...", []),
        ("names = ('weight', 'bias'); x.dtype is torch.float32", []),
    ],
)
def test_what_counts_as_telling_apart(code: str, expected: list[str]) -> None:
    assert sorted(name for _, name in named_in(code)) == expected
