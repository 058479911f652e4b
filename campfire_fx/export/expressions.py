"""Graph nodes written as Python expressions over `torch`, `F` (torch.nn.functional) and plain operators."""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from campfire_fx.base.compat import OpOverload, OpOverloadPacket
from campfire_fx.base.errors import ExportError
from campfire_fx.base.location import INFIX
from campfire_fx.export.literals import index, literal

_PREFIX: dict[Callable[..., Any], str] = {
    operator.neg: "-", operator.pos: "+", operator.invert: "~", operator.not_: "not ",
}  # fmt: skip
_NAMESPACES = (
    ("F", F), ("torch", torch), ("torch.Tensor", torch.Tensor), ("torch.linalg", torch.linalg),
    ("torch.fft", torch.fft), ("torch.special", torch.special), ("math", math), ("operator", operator),
)  # fmt: skip
"""Where a function may be named from, the first that has it wins."""

Names = Callable[[fx.Node], str]
"""What stands for a node where it is read: a variable, a path below `self`, or the code that computes it."""


def expression(node: fx.Node, names: Names, path: Callable[[str], str]) -> str:
    """Return the code that computes the node. `path` writes a module's target as a path below `self`.

    Raises:
        ExportError: the node calls a function that torch does not provide.
    """
    if node.op == "call_module":
        return f"{path(str(node.target))}({_arguments(node.args, node.kwargs, names)})"
    if node.op == "call_method":
        owner, *rest = node.args
        return f"{_operand(owner, names)}.{node.target}({_arguments(tuple(rest), node.kwargs, names)})"
    return _call(node, names)


def is_infix(node: fx.Node) -> bool:
    """Say whether the node is written with an operator, so that it needs parentheses inside another."""
    return node.op == "call_function" and (node.target in INFIX or node.target in _PREFIX)


def _call(node: fx.Node, names: Names) -> str:
    function: Any = node.target
    args = node.args
    if function in INFIX and len(args) == 2 and not node.kwargs:
        return f"{_operand(args[0], names)} {INFIX[function]} {_operand(args[1], names)}"
    if function in _PREFIX and len(args) == 1 and not node.kwargs:
        return f"{_PREFIX[function]}{_operand(args[0], names)}"
    if function is operator.getitem:
        return f"{_operand(args[0], names)}[{index(args[1], names)}]"
    if function is operator.setitem:
        return f"{_operand(args[0], names)}[{index(args[1], names)}] = {literal(args[2], names)}"
    if function is getattr and len(args) == 2 and isinstance(args[1], str):
        return f"{_operand(args[0], names)}.{args[1]}"
    return f"{_name(node)}({_arguments(args, _without_defaults(function, node.kwargs), names)})"


def _operand(value: Any, names: Names) -> str:
    """Return the code of one operand: in parentheses where an operator beside it could tear it apart."""
    text = literal(value, names)
    torn = is_infix(value) and not text.isidentifier() if isinstance(value, fx.Node) else text.startswith("-")
    return f"({text})" if torn else text


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], names: Names) -> str:
    given = [literal(value, names) for value in args]
    return ", ".join([*given, *(f"{key}={literal(value, names)}" for key, value in kwargs.items())])


def _name(node: fx.Node) -> str:
    """Return the public name of the function that the node calls."""
    function: Any = node.target
    if isinstance(function, OpOverload | OpOverloadPacket):
        if getattr(function, "namespace", "aten") in ("aten", "prims"):
            return f"torch.ops.{function!s}"
    elif function is OrderedDict:
        return "OrderedDict"
    elif (name := _public_names().get(id(function))) is not None:
        return name
    origin = getattr(function, "__module__", None) or type(function).__name__
    raise ExportError(
        f"no torch-only code at {node.name}: it calls {origin}.{getattr(function, '__name__', function)}, which is not "
        "part of torch. Write it with torch operations, or export to .onnx or .pt2."
    )


@functools.cache
def _public_names() -> dict[int, str]:
    """Map the id of each function of torch and the standard library to the name to call it by."""
    found: dict[int, str] = {}
    for prefix, namespace in _NAMESPACES:
        for name in sorted(dir(namespace), key=lambda name: (name.startswith("_"), name)):
            value = inspect.getattr_static(namespace, name, None)
            if callable(value) and not isinstance(value, type):
                found.setdefault(id(value), f"{prefix}.{name}")
    found.update({id(value): name for name, value in vars(builtins).items() if callable(value)})
    return found


def _without_defaults(function: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Leave out keyword arguments that say what the function does anyway."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in functions have no signature to read
        return kwargs
    return {
        name: value
        for name, value in kwargs.items()
        if name not in known or type(value) is not type(known[name].default) or value != known[name].default
    }
