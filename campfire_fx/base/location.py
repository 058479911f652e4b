"""Name places for people: the source line that is running, and a graph node as the expression it came from."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import fx

from campfire_fx.base.compat import stack_frame

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
# What runs while a model is captured; the networks of the applications are captured as any user's.
_ROOMS = ("analysis", "base", "capture", "layers")
_HERE = tuple(f"{Path(__file__).parents[1] / room}{os.sep}" for room in _ROOMS)
INFIX = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**", operator.matmul: "@", operator.eq: "==", operator.ne: "!=",
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.and_: "&",
    operator.or_: "|", operator.xor: "^", operator.is_: "is", operator.is_not: "is not",
    operator.lshift: "<<", operator.rshift: ">>",
}  # fmt: skip
SIGNATURES = ", but expected one of:"  # torch goes on with a page of signatures
_DEPTH = 5
_ITEMS = 4


def is_library_file(filename: str) -> bool:
    """Return whether `filename` is torch's, this package's, or generated: no place to send a user to."""
    return filename.startswith((_TORCH, *_HERE, "<"))


def user_frame() -> FrameType | None:
    """Return the innermost running frame that is the user's own code."""
    frame: FrameType | None = stack_frame(1)
    while frame is not None and is_library_file(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def current_line() -> str:
    """Return `file.py:123` of the user's code that is running."""
    frame = user_frame()
    return line(frame.f_code.co_filename, frame.f_lineno) if frame is not None else "unknown line"


def line_of(error: BaseException) -> str | None:
    """Return `file.py:123` of the innermost user code that `error` passed through; None if there is none."""
    lines = [
        line(frame.f_code.co_filename, number)
        for frame, number in _walk(error.__traceback__)
        if not is_library_file(frame.f_code.co_filename)
    ]
    return lines[-1] if lines else None


def _walk(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def line(filename: str, number: int) -> str:
    """Return `file.py:123`."""
    return f"{Path(filename).name}:{number}"


def place(node: fx.Node) -> str:
    """Name a node for people: a layer by its path, another call as `layer1.0 (add)`, by the code that it stands in.

    Of several alike in a graph all but the first have a number. A node of which nothing is noted keeps fx's name.
    """
    name = _place(node)
    if name is None:
        return node.name
    before = itertools.takewhile(lambda other: other is not node, node.graph.nodes)
    number = 1 + sum(_place(other) == name for other in before)
    if number == 1:
        return name
    if node.op == "call_module":
        return f"{name} (call {number})"
    return f"{name[:-1]} {number})" if name.endswith(")") else f"{name} {number}"


def _place(node: fx.Node) -> str | None:
    """Return the path of a call's layer, or of the module whose code calls, with what it does; None: not known."""
    if node.op == "call_module":
        return str(node.target)
    if node.op not in ("call_function", "call_method") or "nn_module_stack" not in node.meta:
        return None
    module = next(reversed(node.meta["nn_module_stack"]), "")
    return f"{module} ({operation(node)})" if module else operation(node)


def operation(node: fx.Node) -> str:
    """Return what a function or method does, whichever of its forms it is: "add" for `iadd`, `add_`, `add.Tensor`."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    plain = name.partition(".")[0].strip("_") or name
    in_place = getattr(operator, plain, None) is node.target and plain[:1] == "i" and hasattr(operator, plain[1:])
    return plain[1:] if in_place else plain


def expression(value: Any, depth: int = _DEPTH) -> str:
    """Return `value`, a node or an argument of one, as Python text near to what the user wrote."""
    if isinstance(value, fx.Node):
        return _node(value, depth)
    if isinstance(value, (tuple, list)):
        inner = ", ".join([expression(item, depth) for item in value[:_ITEMS]] + ["..."] * (len(value) > _ITEMS))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        text = [("" if part is None else expression(part, depth)) for part in parts]
        return ":".join(text if value.step is not None else text[:2])
    return "..." if value is Ellipsis else repr(value)


def _node(node: fx.Node, depth: int) -> str:
    if node.op in ("placeholder", "get_attr"):
        return str(node.target).lstrip("*")
    if node.op == "call_module":
        return f"{node.target}(...)"
    if depth == 0:
        return node.name
    args = [expression(arg, depth - 1) for arg in node.args]
    if node.target is getattr and len(args) == 2:
        return f"{args[0]}.{node.args[1]}"
    if node.target is operator.getitem:
        index = args[1][1:-1] if isinstance(node.args[1], tuple) else args[1]
        return f"{args[0]}[{index}]"
    if node.op == "call_function" and node.target in INFIX:
        return f"({args[0]} {INFIX[node.target]} {args[1]})"
    args += [f"{key}={expression(item, depth - 1)}" for key, item in node.kwargs.items()]
    if node.op == "call_method":
        return f"{args[0]}.{node.target}({', '.join(args[1:])})"
    return f"{getattr(node.target, '__name__', node.target)}({', '.join(args)})"


def summary(error: BaseException) -> str:
    """Return the first sentence of an error's message, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].removesuffix(SIGNATURES).split(". ")[0].rstrip(".") if lines else type(error).__name__
