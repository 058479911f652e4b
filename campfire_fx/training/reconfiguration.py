"""Reconfiguration: masks and schedule for a model that was shrunk in the middle of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from campfire_fx.layers.masked import MaskedLayer, mask_layer, why_not_masked
from campfire_fx.passes.insert_masks import Norm
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.sparsity.course import Course
from campfire_fx.training.attachment import Training


def mask_again(slim: SlimModel, model: nn.Module, training: Training) -> Training:
    """Mask the layers that are left of a sparse model, in place; return the smaller model's training.

    A weight keeps its mask. One that is not zero under it is the merged constant of several dead channels: it is
    kept. The course is over: every layer is asked for the sparsity that it has.

    Args:
        slim: what became of `model`.
        model: the sparse model, its masks final.
        training: of `model`.
    """
    layers: dict[str, MaskedLayer] = {}
    for path, old in model.named_modules(remove_duplicate=False):
        new = _find(slim, path)
        if isinstance(old, MaskedLayer) and new is not None and not why_not_masked(new):
            layers[path] = mask_layer(new)
            layers[path].set_mask(_mask_left(old.mask, slim.plan.keep.get(f"{path}.weight", ()), layers[path].weight))
    return Training(
        course=_finished(training.course, layers),
        norms=tuple(norm for norm in training.norms if _is_left(norm, slim, layers)),
        unmasked=training.unmasked,
        example=slim.example,
        further=slim.examples[1:],
    )


def _find(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _mask_left(mask: Tensor, keep: Sequence[tuple[int, ...] | None], weight: Tensor) -> Tensor:
    nonzero = weight.detach() != 0
    for axis, kept in enumerate(keep):
        if kept is not None:
            mask = mask.index_select(axis, torch.tensor(kept, device=mask.device))
    return nonzero | mask if mask.shape == weight.shape else nonzero  # groups that kept different channels


def _finished(course: Course, layers: dict[str, MaskedLayer]) -> Course:
    """Return a course that is over, of the layers that are left."""
    left = {name: assignment for name, assignment in course.assignments.items() if name in layers}
    zeros = {name: float((~layers[name].mask).double().mean()) for name in left}
    total = sum(layers[name].mask.numel() for name in left)
    result = course.copy()
    result.assignments = {
        name: replace(assignment, sparsity=zeros[name] if assignment.rule is not None else 0.0)
        for name, assignment in left.items()
    }
    result.reached = {name: zeros[name] for name, assignment in left.items() if assignment.rule is not None}
    result.sparsity = sum(zeros[name] * layers[name].mask.numel() for name in left) / max(1, total)
    result.own &= left.keys()
    result.frozen = True
    return result


def _is_left(norm: Norm, slim: nn.Module, layers: dict[str, MaskedLayer]) -> bool:
    return _find(slim, norm.path) is not None and all(path in layers for path in norm.convolutions)
