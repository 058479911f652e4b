"""Inputs and outputs: placeholders for the arguments given, structures of proxies, structures rebuilt in the graph."""

from __future__ import annotations

import dataclasses
import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from campfire_fx.capture.location import line
from campfire_fx.capture.records import Specialisation

if TYPE_CHECKING:
    from campfire_fx.capture.tracer import ExampleTracer


def placeholders(
    tracer: ExampleTracer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make a placeholder for each argument given, and return the arguments to call forward with.

    Arguments that are not given keep their defaults. Tensors and numbers stay symbolic; None, booleans, strings and the
    structure of lists, tuples and dicts are those of the example.
    """
    signature = inspect.signature(tracer.root.forward)
    bound = signature.bind(*args, **kwargs)
    flat: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            flat.extend((f"{name}_{i}", item) for i, item in enumerate(value))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            flat.extend(value.items())
        else:
            flat.append((name, value))
    proxies = [_placeholder(tracer, name, value) for name, value in flat]
    values = iter([_given(tracer, proxy, value) for proxy, (_, value) in zip(proxies, flat, strict=True)])
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(next(values) for _ in value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = {key: next(values) for key in value}
        else:
            bound.arguments[name] = next(values)
    return bound.args, bound.kwargs


def _placeholder(tracer: ExampleTracer, name: str, value: Any) -> fx.Proxy:
    proxy = tracer.create_proxy("placeholder", name, (), {})
    tracer.evaluator.give(proxy.node, value)
    return proxy


def _given(tracer: ExampleTracer, proxy: fx.Proxy, value: Any) -> Any:
    """Return what the model's code gets to see of an argument."""
    if isinstance(value, (list, tuple, dict)) or _is_fixed(value):
        for expression, part in _fixed(str(proxy.node.target), value):
            tracer.questions.facts[Specialisation(_definition(tracer.root), expression, part)] = None
    return unfold(proxy, value)


def _is_fixed(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str, torch.device, torch.dtype))


def _fixed(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return what the graph takes for granted of an input, as (expression, value)."""
    if _is_fixed(value):
        return [(name, value)]
    if isinstance(value, dict):
        inner = [fact for key, item in value.items() for fact in _fixed(f"{name}[{key!r}]", item)]
        return [(f"list({name})", tuple(value)), *inner]
    if isinstance(value, (list, tuple)):
        inner = [fact for i, item in enumerate(value) for fact in _fixed(f"{name}[{i}]", item)]
        return [(f"len({name})", len(value)), *inner]
    return []


def _definition(model: Any) -> str:
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
        return OrderedDict(items) if isinstance(value, OrderedDict) else items
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
