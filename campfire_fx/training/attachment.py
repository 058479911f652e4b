"""Attachment: masks and schedule ride on `optimizer.step()`; and the state of the training that they ride in."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.passes.insert_masks import Norm
from campfire_fx.sparsity.course import Course


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


@dataclass(slots=True)
class Training:
    """What a SparseModel knows beyond the model itself. Copies and pickles leave the attachments behind.

    Attributes:
        course: what each layer is asked for, and the clock.
        norms: BatchNorms to be zeroed where their filters are dead; empty for dead_norm="keep".
        unmasked: (path, reason) of weights that can hold no mask.
        example: (args, kwargs) that the model was captured with.
        further: the other examples, where there were several.
    """

    course: Course
    norms: tuple[Norm, ...]
    unmasked: tuple[tuple[str, str], ...]
    example: tuple[tuple[Any, ...], dict[str, Any]]
    attachments: list[Attachment] = field(default_factory=list)
    further: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = ()

    def __getstate__(self) -> tuple[Any, ...]:
        return self.course, self.norms, self.unmasked, self.example, self.further

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.course, self.norms, self.unmasked, self.example, *further = state
        self.further = further[0] if further else ()  # pickles of before there were several examples have none
        self.attachments = []


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
            sparse._before_step(held, getattr(optimizer, "grad_scale", None))

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
            sparse._after_step(counts, optimizer)

    return torch.compiler.disable(hook)  # tracing it takes a minute, and gains nothing
