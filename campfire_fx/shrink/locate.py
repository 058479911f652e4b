"""Find the first operation at which a smaller model departs from the one it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.compact import cut_like
from campfire_fx.analysis.labelling import GraphRun, placeholder_values
from campfire_fx.analysis.labels import Labelled
from campfire_fx.base.location import place
from campfire_fx.base.untouched import training_flags
from campfire_fx.capture import trace
from campfire_fx.layers.bake_reparametrizations import bake_reparametrizations
from campfire_fx.shrink.copies import private_copy

if TYPE_CHECKING:
    from campfire_fx.shrink.pipeline import Shrunk

_TOLERANCE = 1e-4


def first_difference(model: nn.Module, shrunk: Shrunk, examples: list[Any]) -> str | None:
    """Return the name of the first node whose live channels differ on an example, or None if all agree.

    Runs both models node by node; for the message of a failed verification, where time does not matter.
    """
    working = private_copy(model)
    bake_reparametrizations(working)
    original = trace(working, examples=examples)
    runs = {id(run.graph): run for run in shrunk.facts.labelling.runs}
    for old, new in zip(original.islands, shrunk.captured.islands, strict=True):
        graphs = zip(old.module.graph_variants, new.module.graph_variants, strict=True)
        for variant, (before, after) in zip(old.variants, graphs, strict=True):
            args = placeholder_values(after.graph, *variant.examples[0])
            with torch.no_grad(), training_flags(old.module, False), training_flags(new.module, False):
                expected = {n.name: v for n, v in _execute(old.module, before.graph, args)}
                for node, value in _execute(new.module, after.graph, args):
                    known = node.name in expected
                    if known and _differs(runs[id(after.graph)], node, expected[node.name], value, shrunk):
                        return place(node)
    return None


def _execute(module: fx.GraphModule, graph: fx.Graph, args: list[Any]) -> Iterator[tuple[fx.Node, Any]]:
    """Yield every node with its value, copied before a later operation can write into it."""
    interpreter = fx.Interpreter(module, garbage_collect_values=False, graph=graph)
    interpreter.args_iter = iter(args)
    for node in graph.nodes:
        if node.op == "output":
            return
        value = interpreter.run_node(node)
        interpreter.env[node] = value
        yield node, value.clone() if isinstance(value, Tensor) else value


def _differs(run: GraphRun, node: fx.Node, expected: Any, got: Any, shrunk: Shrunk) -> bool:
    labels = run.values.get(node)
    if not isinstance(labels, Labelled) or not isinstance(expected, Tensor) or not isinstance(got, Tensor):
        return False
    if labels.labels.ndim != expected.ndim:
        return False
    expected = cut_like(expected, labels.labels, shrunk.removal.live)
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return True
    finite = expected[expected.isfinite()].abs()
    allowed = _TOLERANCE * float(finite.max().clamp(min=1e-30)) if finite.numel() else 0.0
    return not torch.allclose(expected, got, rtol=0.0, atol=allowed, equal_nan=True)
