"""Inputs and outputs: placeholders for the arguments given, structures of proxies, structures rebuilt in the graph."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from campfire_fx.analysis.captured import Specialisation
from campfire_fx.analysis.evaluate import like_dict
from campfire_fx.base.compat import assertion
from campfire_fx.base.location import line
from campfire_fx.capture.formulas import Formula, Value
from campfire_fx.layers.refusals import ARGUMENT, parts_of

if TYPE_CHECKING:
    from campfire_fx.capture.session import ExampleTracer


def placeholders(
    tracer: ExampleTracer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make a placeholder for each argument of forward, and return the arguments to call it with.

    Tensors and numbers that are given stay symbolic. None, booleans, strings, the structure of lists, tuples and dicts,
    and the defaults of what is not given are those of the example: `tracer.questions.given` has what that asks for.
    """
    signature = inspect.signature(tracer.root.forward)
    bound = signature.bind(*args, **kwargs)
    proxies = [
        (_placeholder(tracer, argument), argument) for argument in _arguments(signature, bound.arguments)
    ]  # all of them first: guards on arguments come next
    for proxy, argument in proxies:
        if argument.parameter in bound.arguments:
            bound.arguments[argument.parameter] = _given(tracer, proxy, argument)
        else:
            _note(tracer, proxy.node, argument.value, numbers=True)
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


def _placeholder(tracer: ExampleTracer, argument: _Argument) -> fx.Proxy:
    default = (argument.default,) if _is_plain(argument.default) else ()
    proxy = tracer.create_proxy("placeholder", argument.name, default, {})
    tracer.evaluator.give(proxy.node, argument.value)
    return proxy


def _given(tracer: ExampleTracer, proxy: fx.Proxy, argument: _Argument) -> Any:
    """Return what the model's code gets to see of an argument."""
    value = argument.value
    if isinstance(value, (list, tuple, dict)) or _is_fixed(value):
        _note(tracer, proxy.node, value, numbers=False)
    elif argument.default is None:
        absent = Specialisation(_definition(tracer.root), f"{argument.name} is None", False)
        tracer.questions.given[absent] = Formula(operator.is_not, (Value(proxy.node), None))
    return unfold(proxy, value)


def _note(tracer: ExampleTracer, node: fx.Node, value: Any, *, numbers: bool) -> None:
    """Note what the graph takes for granted of an argument; `numbers`: those in it too."""
    where = _definition(tracer.root)
    for expression, part, condition in _fixed(str(node.target).lstrip("*"), value, Value(node), numbers):
        tracer.questions.given[Specialisation(where, expression, part)] = condition


def _is_fixed(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str, torch.device, torch.dtype))


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


def unfold(proxy: Any, value: Any) -> Any:
    """Return the structure of `value` with proxies in place of its tensors and numbers."""
    if _is_fixed(value):
        return value
    if isinstance(value, (type({}.keys()), type({}.values()), type({}.items()))):
        owner = proxy.tracer.proxy(proxy.node.args[0])
        return list(getattr(proxy.tracer.unfolded(owner), str(proxy.node.target))())
    if isinstance(value, dict):
        items = {key: unfold(proxy[key], item) for key, item in value.items()}
        return items if type(value) is dict else like_dict(value, items)
    if isinstance(value, torch.Size) or not isinstance(value, (list, tuple)):
        return proxy
    parts = [unfold(proxy[i], item) for i, item in enumerate(value)]
    if isinstance(value, list):
        return parts
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def rebuild(tracer: ExampleTracer, value: Any) -> Any:
    """Return a node that makes a dict of the class that `value`, a dict, has."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return tracer.create_node("call_function", type(value), (), tracer.create_arg(fields))
    items = [(key, tracer.create_arg(item)) for key, item in value.items()]
    if hasattr(value, "default_factory"):
        return dict(items)
    return tracer.create_node("call_function", type(value), (items,), {})
