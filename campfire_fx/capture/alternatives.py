"""Guards of one graph that several examples gave: an input must meet those of any one of them.

Where two sets part in one guard, they become one: without the guard if the two are opposites (a flag that is on, or
off), else with either. What is left of several sets is asserted as a whole.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from campfire_fx.capture.formulas import Formula, Size, Value
from campfire_fx.capture.guards import Guard
from campfire_fx.layers.refusals import ARGUMENT, refusal

_Set = dict[Any, Guard]
"""Guards by what they are about: an argument, else the condition itself."""

_OF_STRUCTURE = (len, tuple, operator.getitem)


def any_of(graph: fx.Graph, sets: Sequence[tuple[fx.Graph, Sequence[Guard]]]) -> tuple[Guard, ...] | None:
    """Return guards that hold where all guards of one of the sets do, each set given with its twin of `graph`.

    None where that cannot be asked in one go: of an input without the parts that one of them asks for.
    """
    left: list[_Set] = []
    for twin, guards in sets:
        twins = dict(zip(twin.nodes, graph.nodes, strict=True))
        moved = [replace(guard, condition=_moved(guard.condition, twins)) for guard in guards]
        left.append({guard.subject or guard.condition: guard for guard in moved})
    while (fewer := _joined(left)) is not None:
        left = fewer
    if len(left) == 1:
        return tuple(left[0].values())
    conditions = [{guard.condition for guard in one.values()} for one in left]
    common = set.intersection(*conditions)
    rests = [[guard for guard in one.values() if guard.condition not in common] for one in left]
    if any(_asks_for_parts(guard.condition) for rest in rests for guard in rest):
        return None
    return (*(guard for guard in left[0].values() if guard.condition in common), _one_of(rests))


def _joined(sets: list[_Set]) -> list[_Set] | None:
    """Return the sets with two of them made one; None where no two can be."""
    for i, first in enumerate(sets):
        for j, second in enumerate(sets):
            joined = _union(first, second) if i != j else None
            if joined is not None:
                return [joined, *(one for k, one in enumerate(sets) if k not in (i, j))]
    return None


def _union(first: _Set, second: _Set) -> _Set | None:
    """Return one set that is met where either is; None where there is none."""
    differ = [key for key, guard in first.items() if key not in second or second[key].condition != guard.condition]
    if not differ:
        return first  # the other asks for more
    if len(differ) > 1 or first.keys() != second.keys():
        return None
    (key,) = differ
    rest = {other: guard for other, guard in first.items() if other != key}
    if _are_opposite(first[key], second[key]):
        return rest
    return None if _asks_for_parts(second[key].condition) else rest | {key: _one_of([[first[key]], [second[key]]])}


def _are_opposite(guard: Guard, other: Guard) -> bool:
    """Return whether one of two guards on an argument always holds."""
    one, two = guard.condition, other.condition
    if not isinstance(one, Formula) or not isinstance(two, Formula) or one.args[0] != two.args[0]:
        return False
    if {one.function, two.function} == {operator.is_, operator.is_not}:
        return one.args[1] is two.args[1]
    return one.function is two.function is operator.is_ and {one.args[1], two.args[1]} == {False, True}


def _one_of(rests: Sequence[Sequence[Guard]]) -> Guard:
    """Return a guard that holds where all guards of one of several lists do."""
    first = rests[0][0]
    conditions = [_chained(operator.and_, [guard.condition for guard in rest]) for rest in rests]
    texts = [" and ".join(guard.text for guard in rest) for rest in rests]
    text = " or ".join(f"({text})" if len(rest) > 1 else text for text, rest in zip(texts, rests, strict=True))
    alone = all(len(rest) == 1 for rest in rests) and first.subject
    arguments = all(guard.subject for rest in rests for guard in rest)
    what = f"{ARGUMENT} {first.subject}" if alone else f"{ARGUMENT}s" if arguments else "Input"
    return Guard(
        first.fact,
        _chained(operator.or_, conditions),
        "argument" if alone else "kept",
        refusal(what, first.fact.where, text),
    )


def _chained(function: Callable[..., Any], conditions: Iterable[Any]) -> Any:
    return functools.reduce(lambda first, second: Formula(function, (first, second)), conditions)


def _asks_for_parts(condition: Any) -> bool:
    if not isinstance(condition, Formula):
        return False
    return condition.function in _OF_STRUCTURE or any(map(_asks_for_parts, condition.args))


def _moved(value: Any, twins: dict[fx.Node, fx.Node]) -> Any:
    """Return a condition on the nodes of one graph as one on those of its twin."""
    if isinstance(value, Value):
        return Value(twins[value.node])
    if isinstance(value, Size):
        return Size(twins[value.tensor], value.dim)
    if isinstance(value, Formula):
        return Formula(value.function, tuple([_moved(arg, twins) for arg in value.args]))
    return tuple([_moved(item, twins) for item in value]) if type(value) is tuple else value
