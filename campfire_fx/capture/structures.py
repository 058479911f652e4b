"""Lists, tuples and dicts of a traced model: unfolded into ones of proxies, and rebuilt in the graph."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from campfire_fx.analysis.evaluate import like_dict


def is_fixed(value: Any) -> bool:
    """Return whether the graph takes a value as it is in the example."""
    return value is None or isinstance(value, (bool, str, torch.device, torch.dtype))


def unfold(proxy: Any, value: Any) -> Any:
    """Return the structure of `value` with proxies in place of its tensors and numbers."""
    if is_fixed(value):
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


def rebuild(tracer: Any, value: Any) -> Any:
    """Return a node that makes a dict of the class that `value`, a dict, has."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return tracer.create_node("call_function", type(value), (), tracer.create_arg(fields))
    items = [(key, tracer.create_arg(item)) for key, item in value.items()]
    if hasattr(value, "default_factory"):
        return dict(items)
    return tracer.create_node("call_function", type(value), (items,), {})
