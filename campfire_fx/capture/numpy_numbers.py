"""Functions of numpy that are given sizes: a graph computes the same with Python's own.

numpy asks for the value of what it is given, and so would decide by the example's size.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

from campfire_fx.base.patches import Patches
from campfire_fx.capture.proxy import ExampleProxy, find_proxy

_FORMS: dict[str, tuple[Callable[..., Any], ...]] = {
    "ceil": (math.ceil, float),
    "floor": (math.floor, float),
    "sqrt": (math.sqrt,),
    "log2": (math.log2,),
    "prod": (math.prod,),
}
"""By name, what is called one after the other in the place of numpy's function."""


def install(patches: Patches) -> None:
    """Let functions of numpy become nodes where they are given numbers that a graph computes."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    for name, forms in _FORMS.items():
        patches.put_here(numpy, name, _of_numbers(getattr(numpy, name), forms))


def _of_numbers(function: Callable[..., Any], forms: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = find_proxy(args)
        if proxy is None or kwargs or len(args) != 1 or not _is_number(args[0], nested=forms == _FORMS["prod"]):
            return function(*args, **kwargs)
        value = args[0]
        for form in forms:
            value = proxy.tracer.create_proxy("call_function", form, (value,), {})
        return value

    return call


def _is_number(value: Any, *, nested: bool) -> bool:
    """Return whether a value is a number, or with `nested` a list of numbers, in the example."""
    known = value.example if isinstance(value, ExampleProxy) else value
    if nested:
        return isinstance(known, (tuple, list)) and all(_is_number(item, nested=False) for item in known)
    return isinstance(known, (int, float))
