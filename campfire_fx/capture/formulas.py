"""Formulas over sizes and arguments: what can be said of an input without looking at its numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from campfire_fx.base.location import INFIX, expression


@dataclass(frozen=True, slots=True)
class Size:
    """The size of one dimension of a tensor."""

    tensor: fx.Node
    dim: int


@dataclass(frozen=True, slots=True)
class Value:
    """A node's value as it is."""

    node: fx.Node


@dataclass(frozen=True, slots=True)
class Formula:
    """A function of sizes, values, numbers, and tuples of them."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


_DEPTH = 2  # operations of an activation that its name tells
OPEN = (Size, Value, Formula)
"""What another input may change."""


def formula(function: Callable[..., Any], *args: Any) -> Any:
    """Return a formula, or its value where nothing in it can change."""
    items = [item for arg in args for item in (arg if type(arg) is tuple else (arg,))]
    return Formula(function, args) if any(isinstance(item, OPEN) for item in items) else function(*args)


def leaves(value: Any) -> list[Size | Value]:
    """Return the sizes and values that a formula is made of."""
    if isinstance(value, (Size, Value)):
        return [value]
    parts = value.args if isinstance(value, Formula) else value if isinstance(value, tuple) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def needs(value: Any) -> list[fx.Node]:
    """Return the nodes that a formula reads."""
    return [leaf.tensor if isinstance(leaf, Size) else leaf.node for leaf in leaves(value)]


def holds(condition: Any, values: dict[fx.Node, Any]) -> bool:
    """Return whether a condition is true of these values of nodes; True where they do not tell."""

    def computed(value: Any) -> Any:
        if isinstance(value, Size):
            return values[value.tensor].shape[value.dim]
        if isinstance(value, Value):
            return values[value.node]
        if isinstance(value, Formula):
            return value.function(*[computed(arg) for arg in value.args])
        return tuple([computed(item) for item in value]) if type(value) is tuple else value

    return any(node not in values for node in needs(condition)) or bool(computed(condition))


def with_sizes(value: Any, known: dict[Any, int]) -> Any:
    """Return a formula with known sizes put in."""
    if isinstance(value, Size):
        return known.get(value, value)
    if isinstance(value, Formula):
        return formula(value.function, *[with_sizes(arg, known) for arg in value.args])
    return tuple([with_sizes(item, known) for item in value]) if type(value) is tuple else value


def compared(function: Callable[..., Any], first: Any, second: Any) -> Any:
    """Return whether two shapes are equal (`operator.eq`) or not, as a formula where sizes that may change decide."""
    differ = function is operator.ne
    if type(first) is not tuple or type(second) is not tuple:
        return Formula(function, (first, second)) if isinstance(first, Value) or isinstance(second, Value) else differ
    if len(first) != len(second):
        return differ
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    if any(not isinstance(a, OPEN) and not isinstance(b, OPEN) for a, b in pairs):
        return differ
    if not pairs:
        return not differ
    return Formula(function, pairs[0] if len(pairs) == 1 else tuple(zip(*pairs, strict=True)))


def product(sizes: tuple[Any, ...]) -> Any:
    """Return the product of sizes."""
    result: Any = 1
    for size in sizes:
        result = size if result == 1 else formula(operator.mul, result, size)
    return result


def text_of(value: Any, *, inner: bool = False) -> str:
    """Return a formula as Python text."""
    if isinstance(value, Size):
        return f"{expression(value.tensor, _DEPTH)}.shape[{value.dim}]"
    if isinstance(value, Value):
        return expression(value.node, _DEPTH)
    if isinstance(value, tuple):
        return f"({', '.join(text_of(item) for item in value)}{',' if len(value) == 1 else ''})"
    if not isinstance(value, Formula):
        return repr(value)
    if value.function in INFIX and len(value.args) == 2:
        first, second = (text_of(arg, inner=True) for arg in value.args)
        sign = INFIX[value.function]
        if value.function is operator.add and second.startswith("-"):
            sign, second = "-", second[1:]
        text = f"{first} {sign} {second}"
        return f"({text})" if inner else text
    if value.function is operator.not_:
        return f"not {text_of(value.args[0], inner=True)}"
    return f"{value.function.__name__}({', '.join(text_of(arg) for arg in value.args)})"
