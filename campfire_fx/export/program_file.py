"""Reading .pt2 files without running anything that they bring.

torch.export.load unpickles parts of an archive, loads libraries in it, and evaluates texts in it as Python: expressions
of sizes, guards, names that go into generated code. So what it is given here is another archive, in memory: of the
members that a program of tensors needs, and no other, with every text in them looked at. Sample inputs, notes on where
nodes come from and further files are left behind.
"""

from __future__ import annotations

import ast
import io
import json
import operator
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.disk.seal import fault
from campfire_fx.base.errors import ExportError

_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
)
"""Members that are taken over as they are: numbers, and the bytes of tensors."""
_TEXTS = re.compile(r"models/model\.json|data/(weights/model_weights|constants/model_constants)_config\.json")
"""Members that are taken over after their texts were looked at."""
_LEFT = re.compile(r"data/sample_inputs/model\.pt|extra/.*", re.DOTALL)
"""Members that are left behind."""
_SAMPLES = "data/sample_inputs/model.pt"

_WORD = re.compile(r"[\w.]*")
_PATH = re.compile(r"[^\"'\\\x00-\x1f]*")
_NUMBERS = frozenset(
    "abs add and_ eq floordiv ge getitem gt index inv invert le lshift lt mod mul ne neg not_ or_ pos pow rshift sub"
    " truediv xor".split()
)
"""Functions of Python's operator module that compute with sizes."""
_CALLED = frozenset({"abs", "bool", "float", "int", "len", "max", "min", "round"})
"""Functions of Python's that expressions of sizes call, beside sympy's classes, which begin with a capital."""
_GRAMMAR = (
    ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Name,
    ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.IfExp, ast.boolop, ast.operator, ast.unaryop, ast.cmpop,
    ast.expr_context,
)  # fmt: skip


class _UnsafeProgram(Exception):
    """The file could run code; the text says where, as half a sentence."""


def read_program(path: Path) -> ExportedProgram:
    """Read the program of a .pt2 file.

    Raises:
        ExportError: the file is spoilt, no program, or holds more than a program of tensors.
    """
    try:
        spoilt = fault(path)
        if spoilt is not None:
            raise ExportError(f"cannot load {path}: {spoilt}. Export it again.")
        with zipfile.ZipFile(path) as archive:
            copy = _copied(archive)
    except _UnsafeProgram as refused:
        raise ExportError(
            f"cannot load {path}: {refused}, and that could run code. If you trust it, use torch.export.load."
        ) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError, RecursionError) as error:
        raise ExportError(f"cannot load {path}: it is not a .pt2 file ({reason(error)}). Export it again.") from error
    return torch.export.load(copy)


def _copied(archive: zipfile.ZipFile) -> io.BytesIO:
    """Return an archive of the members that are needed, all looked at."""
    copy = io.BytesIO()
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise _UnsafeProgram("two members of the archive have one name")
    with zipfile.ZipFile(copy, "w") as needed:
        for name in names:
            root, _, member = name.partition("/")
            if _PLAIN.fullmatch(member):
                needed.writestr(name, archive.read(name))
            elif _TEXTS.fullmatch(member):
                needed.writestr(name, json.dumps(_looked_at(json.loads(archive.read(name)))))
            elif not _LEFT.fullmatch(member):
                raise _UnsafeProgram(f"it holds {name!a}")
        if not names or any(not name.startswith(f"{root}/") for name in names):
            raise ValueError("its members do not lie in one folder")
        needed.writestr(f"{root}/{_SAMPLES}", b"")
    copy.seek(0)
    return copy


def _looked_at(content: Any) -> Any:
    """Return the content of a JSON file without notes; raise unless every text in it is harmless."""
    for key, text in _texts(content, ""):
        if not _LOOKS.get(key, _is_word)(text):
            raise _UnsafeProgram(f"{text[:60]!a} stands in it for {key or 'a name'}")
    return content


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every text in JSON content, with the key that it stands under; drop the notes of nodes."""
    if isinstance(value, dict):
        if value.get("use_pickle"):
            raise _UnsafeProgram("a tensor in it is pickled")
        if "target" in value and "metadata" in value:
            value["metadata"] = {}
        for name, inner in value.items():
            yield "name of a tensor" if key == "config" else "", name
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


def _is_path(text: str) -> bool:
    return _PATH.fullmatch(text) is not None


def _is_operation(text: str) -> bool:
    """Say whether a function by name is an operation of torch, or arithmetic."""
    parts = text.split(".")
    if not _is_word(text):
        return False
    match parts:
        case ["torch", "ops", space, *rest]:
            named = [name for name in rest if not name.startswith("_") or hasattr(operator, name)]
            return named == rest and 1 <= len(rest) <= 2 and not hasattr(type(torch.ops), space)
        case ["_operator", name]:
            return name in _NUMBERS
        case ["math", name]:
            return not name.startswith("_")
        case ["torch", name]:
            return name.startswith(("sym_", "_sym_"))
    return False


def _is_expression(text: str) -> bool:
    """Say whether a text is an expression of sizes: numbers, symbols, and sympy's classes applied to them."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return all(isinstance(node, _GRAMMAR) and _is_plain(node) for node in nodes)


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, bytes) and (not isinstance(node.value, str) or _is_word(node.value))
    if isinstance(node, ast.Name):
        return not node.id.startswith("__")
    if isinstance(node, ast.Attribute):
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        return node.attr in ("size", "stride", "storage_offset") or (
            (of == "math" or (of == "torch" and node.attr.startswith("sym_"))) and not node.attr.startswith("_")
        )
    if isinstance(node, ast.Call):
        called = node.func
        return isinstance(called, ast.Attribute) or (
            isinstance(called, ast.Name) and (called.id in _CALLED or called.id[0].isupper())
        )
    return True


def is_structure(text: str) -> bool:
    """Say whether the structure of inputs or outputs of a program names no class or function that would be imported."""
    return "__enum__" not in text and "default_factory" not in text


def _anything(_: str) -> bool:
    return True


_LOOKS: Mapping[str, Callable[[str], bool]] = {
    "as_string": _anything,
    "torch_version": _anything,
    "target": _is_operation,
    "as_operator": _is_operation,
    "expr_str": _is_expression,
    "guards_code": _is_expression,
    "in_spec": is_structure,
    "out_spec": is_structure,
    "fqn": _is_path,
    "parameter_name": _is_path,
    "buffer_name": _is_path,
    "tensor_constant_name": _is_path,
    "name of a tensor": _is_path,
}
"""How a text is looked at, by the key that it stands under; others must be words."""
