"""The layers that may take another form, and how the example calls them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.rules import Kind, known_class, lookup
from campfire_fx.analysis.rules.layers import MAX_POOLS
from campfire_fx.layers.dual import graphs_of
from campfire_fx.layers.fused import FusedLayer


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of a layer: shapes and kind of numbers of what it reads, and whether a residual is added."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    residual: bool


@dataclass(slots=True, eq=False)
class Site:
    """One layer of a graph with its epilogue: a convolution, a linear layer, or max pooling.

    Attributes:
        path: where the graphs call it.
        module: what they call: the layer itself, or a `FusedLayer`.
        layer: the layer.
        activation: behind it, "" for none.
        calls: those of the example, in order.
        macs: of all calls.
    """

    path: str
    module: nn.Module
    layer: Any
    activation: str
    calls: list[LayerCall] = field(default_factory=list)
    macs: int = 0

    @property
    def operation(self) -> str:
        """The name of the layer's class in torch.nn."""
        return (known_class(self.layer) or type(self.layer)).__name__

    @property
    def zeros(self) -> float:
        """The share of weights that are zero."""
        weight = getattr(self.layer, "weight", None)
        return 0.0 if weight is None else 1 - int(weight.count_nonzero()) / max(1, weight.numel())

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight; () where there is none."""
        weight = getattr(self.layer, "weight", None)
        return () if weight is None else tuple(weight.shape)

    @property
    def fused(self) -> tuple[str, ...]:
        """What is computed with the layer."""
        adds = ("sum",) if any(call.residual for call in self.calls) else ()
        return (*adds, self.activation) if self.activation else adds

    def examples(self, seed: int = 0) -> list[tuple[Tensor, ...]]:
        """Return random operands of the shapes of every call: input, and residual if there is one."""
        generator = torch.Generator().manual_seed(seed)
        found: list[tuple[Tensor, ...]] = []
        for call in self.calls:
            x = torch.randn(call.shape, generator=generator).to(call.dtype)
            found.append((x, torch.randn_like(self.layer(x))) if call.residual else (x,))
        return found


def sites_of(captured: Captured, examples: list[Any]) -> list[Site]:
    """Return the layers that the graphs of a captured model call on the examples, in the order of the graphs."""
    sites = {id(site.module): site for site in reversed(list(_sites(captured)))}
    hooks = [site.module.register_forward_hook(_note(site), with_kwargs=True) for site in sites.values()]
    try:
        with torch.no_grad():
            for args, kwargs in examples:
                captured.module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return [site for site in reversed(sites.values()) if site.calls]


def _sites(captured: Captured) -> Iterator[Site]:
    for island in captured.islands:
        for graph in graphs_of(island.module):
            for node in graph.find_nodes(op="call_module"):
                module = island.module.get_submodule(str(node.target))
                layer, activation = (
                    (module.layer, module.activation) if isinstance(module, FusedLayer) else (module, "")
                )
                made = known_class(layer)
                rule = lookup(made)
                if made in MAX_POOLS or (rule is not None and rule.kind is Kind.MIX):
                    yield Site(str(node.target), module, layer, activation)


def _note(site: Site) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        x, *residual = (*args, *kwargs.values())
        site.calls.append(LayerCall(tuple(x.shape), x.dtype, bool(residual)))
        if site.weight_shape:
            counted = x if getattr(site.layer, "transposed", False) else output
            site.macs += counted.numel() * math.prod(site.weight_shape[1:])

    return hook
