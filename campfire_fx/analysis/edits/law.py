"""The law of movement on labels: `f(compact(labels)) == compact(f(labels))`, for one operation of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from campfire_fx.analysis.after_removal import AfterRemoval
from campfire_fx.analysis.compact import Vanished
from campfire_fx.analysis.edits.rewrite_arguments import Arguments, Selected
from campfire_fx.analysis.labels import Labelled, collapse
from campfire_fx.analysis.rules import Kind
from campfire_fx.analysis.rules.movement import read_padding
from campfire_fx.analysis.rules.record import invoke, map_nested, map_nodes


def holds(after: AfterRemoval, node: fx.Node, expected: Any, arguments: Arguments | None) -> bool:
    """Whether the operation, with these arguments, gives the compacted labels."""
    try:
        if arguments is None:
            if _lost_beside(after, node):
                return False
            args, kwargs = _on_labels(after, node, (node.args, dict(node.kwargs)))
            got = invoke(node, after.run.submodule(node), args, kwargs)
        else:
            target, *rest = arguments
            args, kwargs = _on_labels(after, node, tuple(rest))
            name = "reshape" if target == "view" else target
            got = getattr(args[0], name)(*args[1:], **kwargs) if isinstance(name, str) else name(*args, **kwargs)
    except Exception:  # noqa: BLE001  sizes that do not fit are what is being looked for
        return False
    return _matches(got, expected, _fill(after, node))


def _lost_beside(after: AfterRemoval, node: fx.Node) -> bool:
    """Whether a concatenation loses channels of what depends on no input, which nothing else makes smaller."""
    joined = after.labelling.structure.joined.get(node, {})
    return any(not after.live.keeps(own.labels).all() for own in joined.values())


def _on_labels(after: AfterRemoval, node: fx.Node, arguments: Any) -> Any:
    """Put labels in the place of nodes; what a concatenation takes that depends on no input has labels there alone."""
    joined = after.labelling.structure.joined.get(node, {})

    def value(source: fx.Node) -> Any:
        return after.compacted(joined[source]) if source in joined else after.values[source]

    values = map_nested(map_nodes(arguments, value), lambda v: v.labels if isinstance(v, Selected) else v)
    return map_nested(values, lambda v: v.labels if isinstance(v, Labelled) else v)


def _fill(after: AfterRemoval, node: fx.Node) -> float | None:
    """Return the number that a padding writes, or None: in its place labels say whose channel it stands in."""
    if after.run.rule(node).kind is not Kind.PAD:
        return None
    value = read_padding(node, after.run.submodule(node)).value
    return float(value) if isinstance(value, (int, float)) else 0.0


def _matches(got: Any, expected: Any, fill: float | None) -> bool:
    if isinstance(expected, Vanished):
        return isinstance(got, Tensor) and got.numel() == 0
    if isinstance(expected, Labelled):
        if not isinstance(got, Tensor) or got.shape != expected.shape:
            return False
        equal = collapse(got) == collapse(expected.labels)
        return bool(equal.all() if fill is None else (equal | (got == fill)).all())
    if isinstance(expected, (tuple, list)):
        return len(got) == len(expected) and all(_matches(a, b, fill) for a, b in zip(got, expected, strict=True))
    return same(got, expected)


def same(first: Any, second: Any) -> bool:
    """Whether two values, however nested, are equal in form and content."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.equal(first, second))
    if type(first) is not type(second):
        return False
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second)
