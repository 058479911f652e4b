"""The masks of a whole model: find them, move them, put them back after an optimizer step, count them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.compat import children_of
from campfire_fx.base.errors import RegimeError
from campfire_fx.base.sharding import local, reshard, whole
from campfire_fx.base.zeroing import selector, zero_all_
from campfire_fx.layers.masked import MaskedLayer, plain_class
from campfire_fx.passes.insert_masks import Norm
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.course import Course
from campfire_fx.sparsity.record import LayerSparsity, SparsityRecord, measure_layer
from campfire_fx.sparsity.selection import Goal
from campfire_fx.training.dead_norms import dead_norms


def find_layer(model: nn.Module, path: str, known: Iterable[str]) -> MaskedLayer:
    """Return the masked layer at a path.

    Raises:
        RegimeError: there is none. It was replaced, or is gone, where the path is one of the known ones; else the
            error names the nearest of them.
    """
    parent, _, name = path.rpartition(".")
    try:
        layer = children_of(model.get_submodule(parent)).get(name)
    except AttributeError:
        layer = None
    if isinstance(layer, MaskedLayer):
        return layer
    known, what = list(known), type(layer).__name__
    if path in known:
        now = "it is gone from the model" if layer is None else f"a {what} without a mask has taken its place"
        raise RegimeError(
            f"layer '{path}': {now}. Change layers in the dense model and call sparsify on that, or "
            "in what shrink() returns."
        )
    why = "no masked layer has that path" if layer is None else f"a {what} holds no mask"
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.0)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise RegimeError(f"layer '{path}': {why}.{hint}")


def layers_sharing(model: nn.Module, layer: MaskedLayer) -> list[MaskedLayer]:
    """Return all layers of a model that have the weight of one of them, that one included."""
    return [module for module in model.modules() if isinstance(module, MaskedLayer) and module.weight is layer.weight]


def set_mask(model: nn.Module, layer: MaskedLayer, mask: Tensor) -> None:
    """Set the mask of a layer and of all layers that share its weight."""
    for sharing in layers_sharing(model, layer):
        sharing.set_mask(mask)


def mask_names(model: nn.Module) -> list[str]:
    """Return the names of all masks among a model's buffers."""
    return [
        f"{path}.mask"
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, MaskedLayer)
    ]


def copy_masks(source: nn.Module, target: nn.Module, course: Course) -> None:
    """Give the layers of a model the masks of another one that has the same layers."""
    for name in course.assignments:
        mask, layer = find_layer(source, name, course.assignments).mask, find_layer(target, name, course.assignments)
        if not torch.equal(mask.to(layer.mask.device), layer.mask):
            set_mask(target, layer, mask)


def move_masks(model: nn.Module, course: Course) -> list[Assignment]:
    """Compute the mask of every layer whose threshold has risen, and of no other; returns those layers.

    Raises:
        RegimeError: a weight is not finite; no mask has moved.
    """
    reshard(model.modules())
    moved = [(a, find_layer(model, a.name, course.assignments)) for a in course.moved()]
    for assignment, layer in moved:
        require_finite(layer, assignment.name)
    for assignment, layer in moved:
        due = course.due(assignment)
        set_mask(model, layer, _next_mask(layer, assignment, due, layer.mask))
        course.reached[assignment.name] = due
    return [assignment for assignment, _ in moved]


def require_finite(layer: MaskedLayer, name: str) -> None:
    """Raise a RegimeError if a weight cannot be ranked."""
    if not bool(torch.isfinite(whole(layer.weight.detach())).all()):
        raise RegimeError(
            f"masks at {name}: its weight is not finite, so it cannot be ranked. "
            "Go back to a checkpoint from before training diverged."
        )


def exact_mask(layer: MaskedLayer, assignment: Assignment, due: float) -> Tensor:
    """Return the mask that a rule gives a layer for a sparsity, whatever its mask was so far."""
    return _next_mask(layer, assignment, due, torch.ones_like(layer.mask))


@torch.no_grad()
def _next_mask(layer: MaskedLayer, assignment: Assignment, due: float, so_far: Tensor) -> Tensor:
    assert assignment.rule is not None
    weight, mask = whole(layer.weight.detach()), layer.as_filters(so_far)
    if weight.dtype not in (torch.float32, torch.float64):
        weight = weight.float()
    proposal = assignment.rule(layer.as_filters(weight), mask, Goal(due, assignment.sparsity))
    return layer.from_filters(assignment.update(mask, proposal))


@torch.no_grad()
def remask(model: nn.Module, norms: Sequence[Norm], optimizers: Iterable[Optimizer]) -> None:
    """Zero weights under their masks, norms of dead filters, and the optimizer state of both.

    A zeroed gradient is not enough: momentum, moments and decay move a weight after its gradient is gone.
    State is any tensor of floats of the parameter's shape (momentum_buffer, exp_avg, ...). One call does all of it: a
    fraction of a percent of a training step.

    Args:
        model: holds masked layers.
        norms: BatchNorms to be zeroed (weight, bias, running_mean) in the channels whose filters are dead, together
            with the biases of those filters, so that such a channel is exactly zero.
        optimizers: any; parameters they do not hold are skipped.
    """
    tensors: list[Tensor] = []
    factors: list[Tensor] = []
    states = [optimizer.state for optimizer in optimizers]
    reshard(model.modules())
    for tensor, factor in (*_masked_weights(model), *dead_norms(model, norms)):
        tensors.append(local(tensor))
        factors.append(factor)
        for state in states:
            for value in state.get(tensor, {}).values():
                if isinstance(value, Tensor) and value.shape == tensor.shape and _holds_floats(value):
                    tensors.append(local(value))
                    factors.append(selector(factor, value))
    zero_all_(tensors, factors)


def _holds_floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _masked_weights(model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for module in model.modules():
        if isinstance(module, MaskedLayer):
            factor = module.multiplier()
            if factor is not None:
                module.watch_gradient()  # of a weight that was put in place since (fully_shard)
                yield module.weight, factor


def measure(model: nn.Module, course: Course, unmasked: tuple[tuple[str, str], ...]) -> SparsityRecord:
    """Count all masks of a model."""
    layers = tuple(_measure_layer(model, course, assignment) for assignment in course.assignments.values())
    followed = [layer for layer in layers if not layer.reason]
    due = sum(layer.target * layer.weights for layer in followed)
    schedules = [a.schedule for a in course.assignments.values() if a.rule is not None]
    end = max(schedule.end for schedule in schedules)
    return SparsityRecord(
        regime=course.regime,
        epoch=course.epoch,
        era=(min(schedule.start for schedule in schedules), end),
        final=course.sparsity,
        target=due / max(1, sum(layer.weights for layer in followed)),
        frozen=course.frozen or (course.epoch >= end and not course.masters()),
        layers=layers,
        unmasked=unmasked,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def _measure_layer(model: nn.Module, course: Course, assignment: Assignment) -> LayerSparsity:
    layer = find_layer(model, assignment.name, course.assignments)
    plain = plain_class(layer)
    assert plain is not None
    return measure_layer(
        assignment.name,
        plain.__name__,
        tuple(layer.weight.shape),
        layer.as_filters(layer.mask),
        final=assignment.sparsity,
        target=course.due(assignment) if assignment.rule is not None else 0.0,
        reason="its mask was set by hand" if assignment.name in course.own else assignment.reason,
        iterate=course.iterate_now(assignment.name),
    )
