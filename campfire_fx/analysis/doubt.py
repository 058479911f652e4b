"""Doubt: which values of a graph that depend on no activation may yet be others in another call.

Sizes of images are the example's, and so is whatever is computed from them; what data was written into is no longer
what it was made as. None of it proves a constant.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules.factories import FILLED
from campfire_fx.analysis.rules.kinds import Kind
from campfire_fx.analysis.rules.movement import asks_kind
from campfire_fx.analysis.rules.record import map_nested, parts

NAN = float("nan")


class Unprovable(Exception):
    """An operation takes a value that is not the same in every call, in a place where NaN cannot stand for it."""


def doubtful(run: GraphRun, node: fx.Node, known: set[fx.Node]) -> bool:
    """Return whether a node without labels may have another value in another call, given the doubtful nodes before it.

    An option that a call may name is such a value too.
    """
    if node.op == "placeholder":
        return True
    if node.op == "get_attr" or asks_kind(node):
        return False
    return any(source in known or bool(parts(run.values[source], Labelled)) for source in _giving(run, node))


def _giving(run: GraphRun, node: fx.Node) -> list[fx.Node]:
    """Return the nodes that give a value its numbers; other arguments say how large it is, where, of which kind."""
    rule, given = run.rule(node), node.args
    if node.target in FILLED:
        place = FILLED[node.target]
        given = (
            () if place is None else (node.args[place] if place < len(node.args) else node.kwargs.get("fill_value"),)
        )
    elif rule.kind is Kind.CAST or rule.movement:
        given = node.args[:1]
    else:
        return node.all_input_nodes
    found: list[fx.Node] = []
    fx.map_arg(given, found.append)
    return found


def blurred(value: Any, *, whole: bool, truths: bool = False) -> Any:
    """Return NaN in the place of every number in a doubtful value.

    Args:
        value: nested numbers, tensors and others.
        whole: also numbers alone; else they are sizes and places, which say where channels are and not what.
        truths: also tensors that hold none; their place is taken by NaN all the same.

    Raises:
        Unprovable: it holds whole numbers or truths in a tensor.
    """

    def one(item: Any) -> Any:
        if isinstance(item, Tensor):
            if not item.is_floating_point():
                if not whole:
                    return item
                if not truths:
                    raise Unprovable
                return torch.full((), NAN).expand(item.shape)
            return torch.full((), NAN, dtype=item.dtype).expand(item.shape)
        return NAN if whole and isinstance(item, (int, float)) else item

    return map_nested(value, one)
