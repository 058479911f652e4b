"""Carry an optimizer over to the smaller model: its parameters exchanged, its state cut by the same indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.compat import pytree
from campfire_fx.base.errors import ShrinkError

if TYPE_CHECKING:
    from campfire_fx.analysis.edits.cuts import TensorCut
    from campfire_fx.shrink.pipeline import Shrunk

_MEANS = {"row_var": -1, "exp_avg_sq_row": -1, "col_var": -2, "exp_avg_sq_col": -2}
"""State that is a mean over one axis of the parameter, by name (Adafactor, torch's and others'), and that axis."""


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """Raise a ShrinkError if an optimizer has nothing to do with a model, or cannot be carried over to another."""
    kind, parameters = type(optimizer).__name__, {id(p) for p in model.parameters()}
    if not any(id(p) in parameters for group in optimizer.param_groups for p in group["params"]):
        raise ShrinkError(
            f"shrink: the {kind} holds no parameter of this {type(model).__name__}. Give the optimizer that trains it."
        )
    for name, held in vars(optimizer).items():
        if name in ("param_groups", "state", "defaults"):
            continue
        if any(_holds_apart(leaf, optimizer, parameters) for leaf in pytree.tree_leaves(held)):
            raise ShrinkError(
                f"shrink: the {kind} holds parameters or their state in `{name}` too, where they cannot be exchanged."
                " Shrink without it, and make a new one."
            )


def _holds_apart(leaf: object, optimizer: Optimizer, parameters: set[int]) -> bool:
    """Say whether something that an optimizer has beside its groups is a parameter (LBFGS) or holds other state."""
    if isinstance(leaf, Optimizer):  # a wrapper that passes everything on shows the same state
        return leaf.state is not optimizer.state
    return isinstance(leaf, Tensor) and id(leaf) in parameters


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """What one of the optimizer's parameters becomes, and its state; `cut` is None where the tensor stays whole."""

    new: Tensor
    cut: TensorCut | None
    state: dict[str, Any] | None


def carry_over(optimizer: Optimizer, shrunk: Shrunk) -> None:
    """Exchange every parameter of an optimizer for the one in the smaller model, its state cut alike.

    State of the parameter's shape (momentum, moments) is cut; so are means over one of its axes (`_MEANS`), which
    become means over what is left of it. Single numbers (step counts) stay. Parameters that are gone are dropped;
    biases that folding has made join the first group.

    Raises:
        ShrinkError: a tensor that is cut has other state; nothing is changed.
    """
    names = {id(p): name for name, p in shrunk.module.named_parameters()}
    moves = _moves(optimizer, shrunk, names)
    known: set[int] = set()
    for group in optimizer.param_groups:
        group["params"] = [new for old in group["params"] if (new := _exchange(optimizer, old, moves)) is not None]
        known |= {id(p) for p in group["params"]}
    replaced = {id(_new(shrunk, working)[0]) for _, working in shrunk.originals}
    fresh = [p for p in shrunk.module.parameters() if id(p) not in known and id(p) not in replaced]
    if fresh:
        optimizer.param_groups[0]["params"].extend(fresh)


def _new(shrunk: Shrunk, working: Tensor) -> tuple[Tensor, TensorCut | None]:
    cut = shrunk.removal.cuts.tensors.get(id(working))
    return (working, None) if cut is None else (cut.new, cut)


def _moves(optimizer: Optimizer, shrunk: Shrunk, names: dict[int, str]) -> dict[int, _Move | None]:
    """Return what becomes of each parameter of the model given, by its id; None where it is gone."""
    moves: dict[int, _Move | None] = {}
    for original, working in shrunk.originals:
        new, cut = _new(shrunk, working)
        if id(new) not in names:
            moves[id(original)] = None
            continue
        state = optimizer.state.get(original)
        if state is not None and cut is not None:
            place = f"{names[id(new)]}: {type(optimizer).__name__}"
            state = {key: _cut_state(value, key, original, cut, place) for key, value in state.items()}
        moves[id(original)] = _Move(new, cut, state)
    return moves


def _exchange(optimizer: Optimizer, old: Tensor, moves: dict[int, _Move | None]) -> Tensor | None:
    if id(old) not in moves:
        return old  # not a parameter of this model: left alone
    optimizer.state.pop(old, None)
    move = moves[id(old)]
    if move is None:
        return None
    if move.state is not None:
        optimizer.state[move.new] = move.state
    return move.new


def _cut_state(value: Any, name: str, old: Tensor, cut: TensorCut, place: str) -> Any:
    """Return a parameter's state as the smaller parameter has it.

    Raises:
        ShrinkError: it is neither of the parameter's shape, nor a known mean, nor a single number.
    """
    if isinstance(value, Tensor):
        if name in _MEANS and not cut.reshaped and (mean := _cut_mean(value, _MEANS[name], old, cut)) is not None:
            return mean
        if value.shape == old.shape:
            return cut.slice(value)
        if value.numel() == 1:
            return value
    elif not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value)):
        return value
    shape = f"is of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
    raise ShrinkError(
        f"shrink at {place} keeps a state '{name}' that {shape}, and how to cut it with a parameter of"
        f" {tuple(old.shape)} is not known. Shrink without the optimizer, and make a new one."
    )


def _cut_mean(value: Tensor, axis: int, old: Tensor, cut: TensorCut) -> Tensor | None:
    """Cut a mean over one axis of a parameter, kept as a single place or left out; None where it is no such thing.

    What was cut away had no gradient, so the mean over what is left is larger by as much as there were more.
    """
    if old.ndim < 2:
        return None
    kept = list(old.shape)
    kept[axis] = 1
    left_out = value.shape == old.shape[: old.ndim + axis] + old.shape[old.ndim + axis + 1 :]
    if not left_out and value.shape != torch.Size(kept):
        return None
    whole = value.unsqueeze(old.ndim + axis) if left_out else value
    small = cut.slice(whole.expand(old.shape)).narrow(axis, 0, 1)
    scaled = small * (old.shape[axis] / cut.new.shape[axis])
    return scaled.squeeze(axis) if left_out else scaled
