"""Carry an optimizer over to the smaller model: its parameters exchanged, its state cut by the same indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from campfire_fx.passes.pipeline import Shrunk


def carry_over(optimizer: torch.optim.Optimizer, shrunk: Shrunk) -> None:
    """Exchange every parameter of an optimizer for the one in the smaller model, its state cut alike.

    State of the parameter's shape (momentum, moments) is cut; other state (step counts) stays. Parameters that are
    gone are dropped; biases that folding has made join the first group.
    """
    present = {id(p) for p in shrunk.module.parameters()}
    replaced = _replacements(shrunk)
    known: set[int] = set()
    for group in optimizer.param_groups:
        group["params"] = [
            new for old in group["params"] if (new := _exchange(optimizer, old, replaced, present)) is not None
        ]
        known |= {id(p) for p in group["params"]}
    fresh = [p for p in shrunk.module.parameters() if id(p) not in known and id(p) in _made(shrunk, replaced)]
    if fresh and optimizer.param_groups:
        optimizer.param_groups[0]["params"].extend(fresh)


def _replacements(shrunk: Shrunk) -> dict[int, tuple[Tensor, Any]]:
    """Return id of the user's parameter -> (new parameter, how to cut its state)."""
    result: dict[int, tuple[Tensor, Any]] = {}
    for original, working in shrunk.originals:
        cut = shrunk.cuts.tensors.get(id(working))
        result[id(original)] = (working, lambda state: state) if cut is None else (cut.new, cut.slice)
    return result


def _made(shrunk: Shrunk, replaced: dict[int, tuple[Tensor, Any]]) -> set[int]:
    """Ids of parameters that did not exist before."""
    old = {id(new) for new, _ in replaced.values()}
    return {id(p) for p in shrunk.module.parameters()} - old


def _exchange(
    optimizer: torch.optim.Optimizer, old: Tensor, replaced: dict[int, tuple[Tensor, Any]], present: set[int]
) -> Tensor | None:
    state = optimizer.state.pop(old, None)
    if id(old) not in replaced:
        return old  # not a parameter of this model: left alone
    new, cut = replaced[id(old)]
    if id(new) not in present:
        return None
    if state is not None:
        optimizer.state[new] = {
            key: cut(value) if isinstance(value, Tensor) and value.shape == old.shape else value
            for key, value in state.items()
        }
    return new
