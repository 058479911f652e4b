"""Refreshing: the thresholds and masks of all layers with dense master weights, moved after every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.sharding import local, whole
from campfire_fx.layers.dense_weights import MasterLayer, keep_master, pack_relus, release_master, unpack_relus
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.budget import ByMomentum
from campfire_fx.sparsity.course import Course
from campfire_fx.sparsity.topk import TopK
from campfire_fx.training.exchanging import open_gradients
from campfire_fx.training.masks import exact_mask, find_layer, layers_sharing, require_finite, set_mask

_MOMENTA = ("momentum_buffer", "exp_avg")


def arrange(model: nn.Module, course: Course) -> None:
    """Give every layer the form that the course asks for: with a dense master weight, or zero under its mask."""
    open_gradients(model, course)
    for assignment in course.assignments.values():
        if assignment.master is None:
            continue
        for layer in layers_sharing(model, find_layer(model, assignment.name, course.assignments)):
            if course.keeps_master(assignment):
                _prepare(keep_master(layer), assignment, course)
            else:
                release_master(layer)
    if any(a.master is not None and a.master.inputs for a in course.masters()):
        pack_relus(model)
    else:
        unpack_relus(model)


def _prepare(layer: MasterLayer, assignment: Assignment, course: Course) -> None:
    master = assignment.master
    assert master is not None
    layer.refreshing = course.updates % master.period == 0
    if not master.inputs:
        return
    if layer.kept_inputs is None:
        layer.kept_inputs = torch.ones((), dtype=torch.float64)
    layer.kept_inputs.fill_(1 - course.due(assignment))


@torch.no_grad()
def refresh(model: nn.Module, course: Course, *, anew: bool = False) -> None:
    """Draw the masks of all master layers at their thresholds, which are computed first where that is due.

    Args:
        model: holds master layers.
        course: what they are asked for.
        anew: compute all thresholds, due or not.
    """
    for assignment in course.masters():
        layer = find_layer(model, assignment.name, course.assignments)
        assert isinstance(layer, MasterLayer) and assignment.master is not None
        rule = assignment.rule
        on_time = course.updates % assignment.master.period == 0
        due = anew or on_time or assignment.name not in course.reached
        if due:
            course.reached[assignment.name] = course.due(assignment)
        if isinstance(rule, TopK):
            weight = layer.as_filters(whole(layer.weight.detach()))
            if due or not rule.reuse:
                layer.weight_threshold.copy_(rule.threshold(weight, course.due(assignment)))
            set_mask(model, layer, layer.from_filters(rule.above(weight, layer.weight_threshold)))
        elif due:
            set_mask(model, layer, exact_mask(layer, assignment, course.due(assignment)))


def settle(model: nn.Module, course: Course) -> None:
    """Prune every master layer once, to the weight, and make it an ordinary masked one; the course must be frozen.

    Raises:
        RegimeError: a weight is not finite; nothing is changed.
    """
    ended = [a for a in course.assignments.values() if isinstance(_at(model, a, course), MasterLayer)]
    for assignment in ended:
        require_finite(_at(model, assignment, course), assignment.name)
    masks = {a.name: exact_mask(_at(model, a, course), a, course.due(a)) for a in ended}
    for assignment in ended:
        set_mask(model, _at(model, assignment, course), masks[assignment.name])
        course.reached[assignment.name] = course.due(assignment)
    arrange(model, course)


def redistribute(model: nn.Module, course: Course, optimizers: Sequence[Optimizer]) -> None:
    """Divide the weights among the layers of a budget by momentum, from the optimizers' present state.

    Raises:
        RegimeError: no optimizer has a momentum of a layer.
    """
    shared = [a for a in course.masters() if isinstance(a.budget, ByMomentum)]
    if not shared:
        return
    layers = [find_layer(model, a.name, course.assignments) for a in shared]
    found = [_momentum(layer, a.name, optimizers) for layer, a in zip(layers, shared, strict=True)]
    means = torch.stack(found).tolist()
    budget = shared[0].budget
    if not sum(means) > 0 or not isinstance(budget, ByMomentum):
        return
    parts = budget.redistribute(means, [layer.mask.numel() for layer in layers], course.sparsity)
    for assignment, sparsity in zip(shared, parts, strict=True):
        course.assignments[assignment.name] = replace(assignment, sparsity=sparsity)


def _momentum(layer: MaskedLayer, name: str, optimizers: Iterable[Optimizer]) -> Tensor:
    """Return the mean magnitude of momentum over the weights in use, () float64."""
    for optimizer in optimizers:
        state = optimizer.state.get(layer.weight, {})
        momentum = next((state[key] for key in _MOMENTA if isinstance(state.get(key), Tensor)), None)
        if momentum is not None:
            used = local(whole(momentum)).abs().masked_fill(~layer.mask, 0)
            return used.double().sum() / layer.mask.sum()
    raise RegimeError(
        f"swat-m at {name}: no attached optimizer has a momentum for it. "
        "Attach an SGD with momentum, an Adam or an AdamW that holds all weights."
    )


def _at(model: nn.Module, assignment: Assignment, course: Course) -> MaskedLayer:
    return find_layer(model, assignment.name, course.assignments)
