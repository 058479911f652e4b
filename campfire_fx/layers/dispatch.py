"""Dispatch: which of several graphs a call runs, by the guards in them."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.base.compat import assertion
from campfire_fx.layers.refusals import is_guards, is_refusal, refusal_of_all

_ASKING = ("_operator", "builtins", "math")
_METHODS = frozenset("size dim ndimension numel nelement".split())

Forward = Callable[..., Any]
Told = tuple[tuple[str, tuple[str, ...]], ...]
"""For each variant, which examples it was made for, and what it asks of an input."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledWay:
    """One graph, compiled: its forward, and the conditions among its guards that can be asked before it runs.

    `asks_later`: it has others, on what is computed on the way.
    """

    forward: Forward
    conditions: Forward
    asks_later: bool

    def fits(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether the conditions hold; what cannot even be asked of these inputs does not."""
        try:
            return all(self.conditions(module, *args, **kwargs))
        except Exception:  # noqa: BLE001  whatever inputs of another kind say when they are asked
            return False


def conditions_of(graph: fx.Graph) -> tuple[fx.Graph, bool]:
    """Return a graph that gives the conditions of the guards that inputs alone decide, and whether there are others."""
    changed = {node.args[0] for node in graph.nodes if node.args and _may_reshape(node)}
    asked: list[fx.Node] = []
    needed: set[fx.Node] = set()
    asks_later = False
    for node in graph.find_nodes(op="call_function", target=assertion):
        if not is_guards(node.args[1]) or not isinstance(node.args[0], fx.Node):
            continue
        made_of = _made_of(node.args[0])
        if made_of & changed or not all(map(_is_asking, made_of)):
            asks_later = True
        else:
            asked.append(node.args[0])
            needed |= made_of
    result, copied = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node.op == "placeholder" or node in needed:
            copied[node] = result.node_copy(node, copied.__getitem__)
    result.output(tuple([copied[node] for node in asked]))
    return result, asks_later


def _made_of(node: fx.Node) -> set[fx.Node]:
    seen, waiting = {node}, [node]
    while waiting:
        fresh = set(waiting.pop().all_input_nodes) - seen
        seen |= fresh
        waiting += fresh
    return seen


def _is_asking(node: fx.Node) -> bool:
    """Return whether a node is an input, or asks for a size, a length, a part or a number made of such."""
    if node.op == "call_function":
        return node.target is getattr or getattr(node.target, "__module__", None) in _ASKING
    return node.op == "placeholder" or (node.op == "call_method" and node.target in _METHODS)


def _may_reshape(node: fx.Node) -> bool:
    """Return whether a node may change the size or the parts of what it is given first."""
    if _is_asking(node):
        return node.target in (operator.setitem, operator.delitem)
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
    return name.endswith("_") and not name.endswith("__")


def by_mode(evaluate: Forward, train: Forward) -> Forward:
    """Return a forward that picks by `self.training`, with the signature of the inference code."""

    @functools.wraps(evaluate)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.training:
            return train(self, *args, **kwargs)
        return evaluate(self, *args, **kwargs)

    return forward


def by_guards(ways: Sequence[CompiledWay], told: Told) -> Forward:
    """Return a forward that runs the first of several graphs whose guards hold; AssertionError where none does."""
    widest = max((way.forward for way in ways), key=lambda code: len(inspect.signature(code).parameters))

    @functools.wraps(widest)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        for way in ways:
            if way.fits(self, args, kwargs):
                if not way.asks_later:
                    return way.forward(self, *args, **kwargs)
                taken, output = _run_unless_refused(way, self, args, kwargs)
                if taken:
                    return output
        inspect.signature(widest).bind(self, *args, **kwargs)  # a call of another form is the caller's mistake
        raise AssertionError(refusal_of_all(type(self).__name__, told))

    return forward


def _run_unless_refused(
    way: CompiledWay, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bool, Any]:
    """Return whether a graph took the inputs, and its output; where it did not, statistics are as they were."""
    try:
        with _statistics_put_back(module):
            return True, way.forward(module, *args, **kwargs)
    except AssertionError as error:
        if not is_refusal(error):
            raise
        return False, None


@contextmanager
def _statistics_put_back(module: nn.Module) -> Iterator[None]:
    """Put buffers back where the block is refused: half of a training step has counted in them."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()] if module.training else []
    try:
        yield
    except AssertionError:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        raise
