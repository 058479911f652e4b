"""Functions that keep their results by their arguments (`lru_cache`): for proxies they compute, and keep nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from campfire_fx.base.patches import Patches
from campfire_fx.capture.proxy import find_proxy


def uncached(function: Any) -> Callable[..., Any]:
    """Return an `lru_cache`d function made to bypass its cache for proxies, which must not outlive the trace."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if find_proxy(args, kwargs) is None else function.__wrapped__)(*args, **kwargs)

    return call


def install(patches: Patches, caches: Iterable[tuple[Any, str]]) -> None:
    """Let such functions bypass their caches where classes and closures hold them (see `Reach.caches`)."""
    for holder, name in caches:
        value = vars(holder)[name] if isinstance(holder, type) else getattr(holder, name)
        bypass = uncached(getattr(value, "__func__", value))
        patches.put(holder, name, type(value)(bypass) if isinstance(value, (staticmethod, classmethod)) else bypass)
