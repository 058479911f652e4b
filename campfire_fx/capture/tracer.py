"""Symbolic tracing of a module."""

from __future__ import annotations

from typing import Any

from torch import fx, nn


def is_torch_module(module: nn.Module) -> bool:
    """Return whether the code that runs for `module` is torch's own, so that its class says what it computes."""
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return False
    return type(module).forward.__module__.startswith("torch.nn")


class ExampleTracer(fx.Tracer):
    """Trace a module with example inputs at hand."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether `m` becomes one `call_module` node."""
        return is_torch_module(m)


def trace_graph(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Graph:
    """Trace `model` in the mode it is in."""
    return ExampleTracer().trace(model)
