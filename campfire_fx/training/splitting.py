"""Splitting: ADMM on the layers of a sparse model, which keeps Z and U beside their weights until the era is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from campfire_fx.base.compat import foreach_add_, foreach_mul_, foreach_sub
from campfire_fx.base.sharding import is_sharded, local, part_of, reshard, whole
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.admm import Admm, Iterate, project, squared
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.course import Course
from campfire_fx.sparsity.selection import Goal
from campfire_fx.training.masks import find_layer, require_finite

Z, U = "admm_z", "admm_u"  # names in a state_dict, after the layer's


@torch.no_grad()
def iterate(model: nn.Module, course: Course) -> None:
    """Update Z and U of the layers in which that is due, before their masks move: at most once for each.

    An update is due after every so many epochs, and when the aim that it was made for is over.

    Raises:
        RegimeError: a weight is not finite.
    """
    aimed = course.aimed()
    running = [(course.assignments[name], layer) for name, layer in _split_layers(model, course)]
    if running:
        reshard(model.modules())
    for assignment, layer in running:
        last, admm = course.iterates[assignment.name], assignment.update
        assert isinstance(admm, Admm)
        over = assignment.name not in aimed or aimed[assignment.name][2] != last.aim
        due = (course.epoch - last.since) // admm.every > last.updates
        if course.epoch != last.epoch and (over or due):
            require_finite(layer, assignment.name)
            course.iterates[assignment.name] = _update(layer, assignment, admm, replace(last, epoch=course.epoch))


@torch.no_grad()
def resplit(model: nn.Module, course: Course, *, anew: bool = False) -> None:
    """Begin ADMM in layers that have a new aim, Z = Proj(W) and U = 0; end it in those that have none any more.

    Called after the masks have moved. `anew`: also where it has begun, because the weights are others.
    """
    aimed = course.aimed()
    for name, layer in _split_layers(model, course):
        if name not in aimed:
            layer.carry(**{Z: None, U: None})
    if aimed:
        reshard(model.modules())
    for name, (assignment, admm, goal) in aimed.items():
        layer = find_layer(model, name, course.assignments)
        last = course.iterates.get(name)
        if not anew and layer.carries(Z) and last is not None and last.aim == goal:
            continue
        require_finite(layer, name)
        weight = whole(layer.weight.detach())
        near = _nearest(layer, assignment, weight, goal)
        layer.carry(**{Z: near, U: torch.zeros_like(near)})
        course.iterates[name] = Iterate(goal, course.epoch, 0, course.epoch, admm.rho, squared(weight - near))


def _update(layer: MaskedLayer, assignment: Assignment, admm: Admm, last: Iterate) -> Iterate:
    weight, before, dual = whole(layer.weight.detach()), getattr(layer, Z), getattr(layer, U)
    near = _nearest(layer, assignment, weight + dual, last.aim)
    layer.carry(**{Z: near, U: dual + weight - near})
    updates = last.updates + 1
    moved = squared(weight - near), squared(near - before)
    return replace(last, updates=updates, rho=admm.rho_after(updates), primal=moved[0], dual=moved[1])


def _nearest(layer: MaskedLayer, assignment: Assignment, weight: Tensor, sparsity: float) -> Tensor:
    assert assignment.rule is not None
    exact = weight if weight.dtype in (torch.float32, torch.float64) else weight.float()
    filters, mask = layer.as_filters(exact), layer.as_filters(layer.mask)
    near = project(assignment.rule, filters, mask, Goal(sparsity, assignment.sparsity))
    return torch.empty_like(weight).copy_(layer.from_filters(near))


def _split_layers(model: nn.Module, course: Course) -> Iterator[tuple[str, MaskedLayer]]:
    for name in course.iterates:
        layer = find_layer(model, name, course.assignments)
        if layer.carries(Z):
            yield name, layer


@torch.no_grad()
def pull(model: nn.Module, course: Course, parameters: Iterable[Tensor], scale: Tensor | None = None) -> None:
    """Add the gradient of the penalty, rho * (W - Z + U), to weights that have a gradient.

    Args:
        model: holds masked layers.
        course: says which of them ADMM draws.
        parameters: only these.
        scale: what the gradients are multiplied by, where a fused optimizer divides by it (fp16).
    """
    held = {id(parameter) for parameter in parameters}
    aimed = course.aimed()
    layers = [(n, layer) for n, layer in _split_layers(model, course) if n in aimed and id(layer.weight) in held]
    layers = [(name, layer) for name, layer in layers if layer.weight.grad is not None]
    if not layers:
        return
    weights = [local(layer.weight) for _, layer in layers]
    pulls = list(foreach_sub(weights, [_part(layer, Z) for _, layer in layers]))
    foreach_add_(pulls, [_part(layer, U) for _, layer in layers])
    foreach_mul_(pulls, [course.iterates[name].rho for name, _ in layers])
    if scale is not None:
        foreach_mul_(pulls, scale)
    foreach_add_([local(layer.weight.grad) for _, layer in layers if layer.weight.grad is not None], pulls)


def _part(layer: MaskedLayer, name: str) -> Tensor:
    tensor: Tensor = getattr(layer, name)
    return part_of(tensor, layer.weight) if is_sharded(layer.weight) else tensor


def has_admm(course: Course) -> bool:
    """Return whether any layer of a model is drawn by ADMM at some time."""
    return any(isinstance(a.update, Admm) and a.rule is not None for a in course.assignments.values())
