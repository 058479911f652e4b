"""Inputs: placeholders for the arguments given, and what is taken for granted of them."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from campfire_fx.analysis.captured import Specialisation
from campfire_fx.base.compat import assertion
from campfire_fx.base.location import line
from campfire_fx.capture.formulas import Formula, Value
from campfire_fx.capture.session import Session
from campfire_fx.capture.structures import is_fixed, unfold
from campfire_fx.layers.refusals import ARGUMENT, parts_of


def placeholders(
    session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make a placeholder for each argument of forward, and return the arguments to call it with.

    Tensors and numbers that are given stay symbolic. None, booleans, strings, the structure of lists, tuples and dicts,
    and the defaults of what is not given are those of the example: `session.questions.given` has what that asks for.
    """
    signature = inspect.signature(session.root.forward)
    bound = signature.bind(*args, **kwargs)
    proxies = [
        (_placeholder(session, argument), argument) for argument in _arguments(signature, bound.arguments)
    ]  # all of them first: guards on arguments come next
    for proxy, argument in proxies:
        if argument.parameter in bound.arguments:
            bound.arguments[argument.parameter] = _given(session, proxy, argument)
        else:
            _note(session, proxy.node, argument.value, numbers=True)
    return bound.args, bound.kwargs


@dataclasses.dataclass(frozen=True, slots=True)
class _Argument:
    """What the graph is to take for one parameter of forward; `default`: `Parameter.empty` where it has none."""

    parameter: str
    name: str
    value: Any
    default: Any


def _arguments(signature: inspect.Signature, given: dict[str, Any]) -> Iterator[_Argument]:
    """Yield the arguments given, and those with a default that generated code can write."""
    empty = inspect.Parameter.empty
    optional = False  # generated code knows no bare `*`: what follows an argument with a default has one, too
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            optional = False
            if name in given or name != next(reversed(signature.parameters)):
                yield _Argument(name, f"*{name}", given.get(name, ()), empty)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            if name in given:
                yield _Argument(name, f"**{name}", given[name], empty)
        else:
            optional = optional or _is_plain(parameter.default)
            default = None if optional and parameter.default is empty else parameter.default
            if name in given or _is_plain(parameter.default):
                yield _Argument(name, name, given.get(name, parameter.default), default)


def _placeholder(session: Session, argument: _Argument) -> fx.Proxy:
    default = (argument.default,) if _is_plain(argument.default) else ()
    proxy = session.create_proxy("placeholder", argument.name, default, {})
    session.evaluator.give(proxy.node, argument.value)
    return proxy


def _given(session: Session, proxy: fx.Proxy, argument: _Argument) -> Any:
    """Return what the model's code gets to see of an argument."""
    value = argument.value
    if isinstance(value, (list, tuple, dict)) or is_fixed(value):
        _note(session, proxy.node, value, numbers=False)
    elif argument.default is None:
        absent = Specialisation(_definition(session.root), f"{argument.name} is None", False)
        session.questions.given[absent] = Formula(operator.is_not, (Value(proxy.node), None))
    return unfold(proxy, value)


def _note(session: Session, node: fx.Node, value: Any, *, numbers: bool) -> None:
    """Note what the graph takes for granted of an argument; `numbers`: those in it too."""
    where = _definition(session.root)
    for expression, part, condition in _fixed(str(node.target).lstrip("*"), value, Value(node), numbers):
        session.questions.given[Specialisation(where, expression, part)] = condition


def _is_plain(value: Any) -> bool:
    """Return whether generated code can write `value` as a default."""
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, str, int, float, torch.dtype)


def _fixed(name: str, value: Any, here: Any, numbers: bool) -> list[tuple[str, Any, Formula | None]]:
    """Return what is taken for granted of an input, as (expression, value, condition); no condition: a device moves."""
    if value is None or isinstance(value, bool):
        return [(name, value, Formula(operator.is_, (here, value)))]
    if isinstance(value, torch.device):
        return [(name, value, None)]
    if isinstance(value, (str, torch.dtype)) or (numbers and isinstance(value, (int, float))):
        return [(name, value, Formula(operator.eq, (here, value)))]
    if not isinstance(value, (list, tuple, dict)):
        return []
    if isinstance(value, dict):
        keys = tuple(value)
        form = Formula(operator.eq, (Formula(tuple, (here,)), keys)) if _is_plain(keys) else None
        facts: list[tuple[str, Any, Formula | None]] = [(f"list({name})", keys, form)]
    else:
        form = Formula(operator.eq, (Formula(len, (here,)), len(value)))
        facts = [(f"len({name})", len(value), form)]
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        facts += _fixed(f"{name}[{key!r}]", item, Formula(operator.getitem, (here, key)), numbers)
    return facts


def _definition(model: Any) -> str:
    if isinstance(model, fx.GraphModule):  # the code that it was captured from
        asserted = [str(node.args[1]) for node in model.graph.nodes if node.target is assertion]
        lines = [parts[0] for message in asserted if (parts := parts_of(message)) and message.startswith(ARGUMENT)]
        if lines:
            return lines[0]
    code = getattr(inspect.unwrap(type(model).forward), "__code__", None)
    return line(code.co_filename, code.co_firstlineno) if code is not None else "forward"
