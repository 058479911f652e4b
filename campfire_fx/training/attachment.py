"""Attachment: masks and schedule ride on `optimizer.step()`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain


class Handle(RemovableHandle):
    """Several hooks that are removed together."""

    def __init__(self, *handles: RemovableHandle) -> None:
        self.handles = handles

    def remove(self) -> None:
        """Remove all of them."""
        for handle in self.handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class Attachment:
    """One optimizer that the masks ride on. `counts`: its steps move the schedule."""

    optimizer: weakref.ref[Optimizer]
    handle: Handle
    counts: bool


def bare(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer inside the wrappers that Accelerate and Lightning put around it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def holds(optimizer: Optimizer, model: nn.Module) -> bool:
    """Say whether an optimizer holds a parameter of a model."""
    ours = {id(p) for p in model.parameters()}
    return any(id(p) in ours for group in optimizer.param_groups for p in group["params"])


def check_attachment(
    model: nn.Module, optimizer: Optimizer, steps_per_epoch: int | None, others: Sequence[Attachment]
) -> int | None:
    """Return the steps in an epoch; raise a RegimeError if an optimizer cannot be attached to a sparse model."""
    if not holds(optimizer, model):
        raise RegimeError(
            f"attach: the {type(optimizer).__name__} holds no parameter of this sparse model. "
            "Build it from the parameters() of the model that sparsify returned."
        )
    if steps_per_epoch is None:
        return None
    steps_per_epoch = plain(steps_per_epoch)
    if type(steps_per_epoch) is not int or steps_per_epoch < 1:
        raise RegimeError(f"attach: steps_per_epoch={steps_per_epoch!r} is not a count. Give len(loader), or None.")
    if any(other.counts and other.optimizer() is not None for other in others):
        raise RegimeError(
            "attach: the steps of another optimizer are counted already. Give steps_per_epoch to one of them only."
        )
    return steps_per_epoch


def before_step(optimizer: Optimizer, model: weakref.ref[Any]) -> RemovableHandle:
    """Do what is due before every step of an optimizer, or within it where a closure makes the gradients.

    Gradients are whole there: accumulated, averaged over processes, unscaled and clipped.
    """

    def act() -> None:
        sparse = model()
        if sparse is not None:
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            sparse._life_cycle.before_step(sparse, held, getattr(optimizer, "grad_scale", None))

    def hook(_optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            act()
            return None

        def with_action() -> Any:
            loss = closure()
            act()
            return loss

        if len(args) > 1:
            return (args[0], with_action, *args[2:]), kwargs
        return args, kwargs | {"closure": with_action}

    return optimizer.register_step_pre_hook(torch.compiler.disable(hook))


def after_step(model: weakref.ref[Any], counts: bool) -> Callable[..., None]:
    """Return an optimizer's step post hook; it does not keep the model alive, and stays out of compiled steps."""

    def hook(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        sparse = model()
        if sparse is not None:
            attached = sparse._life_cycle.attachments
            leads = next((a for a in attached if a.counts), attached[0]).optimizer() is optimizer
            sparse._life_cycle.after_step(sparse, leads=leads, counts=counts)

    return torch.compiler.disable(hook)  # tracing it takes a minute, and gains nothing
