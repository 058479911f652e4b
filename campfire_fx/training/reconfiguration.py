"""Reconfiguration: masks, schedule and scores for a model that was shrunk in the middle of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.layers.masked import MaskedLayer, mask_layer, why_not_masked
from campfire_fx.passes.insert_masks import Norm
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.sparsity.layer import WEIGHTS
from campfire_fx.sparsity.penalty import SHARE, VALUE
from campfire_fx.sparsity.record import SparsityRecord
from campfire_fx.sparsity.state import SparsityState
from campfire_fx.training.couple import couple_again
from campfire_fx.training.life_cycle import LifeCycle

SINGLE = (VALUE, SHARE)  # what is remembered of the whole model, and not of each group


def check_reconfigurable(record: SparsityRecord, state: SparsityState) -> bool:
    """Return whether masks still move, by methods that can go on in a smaller model; raise if by others."""
    if record.frozen:
        return False
    if not state.goes_on_smaller:
        raise RegimeError(
            f"reconfigure at epoch {record.epoch}: the pruning era is not over, masks still move. "
            "Wait for its end, or call finalize() first; in the era 'channel' and 'channel-combined' can go on."
        )
    return True


def mask_again(slim: SlimModel, model: nn.Module, cycle: LifeCycle, *, goes_on: bool) -> LifeCycle:
    """Mask the layers that are left of a sparse model, in place; return the smaller model's life cycle.

    A weight keeps its mask. One that is not zero under it is the merged constant of several dead channels: it is
    kept. Where the era is over, every layer is asked for the sparsity that it has; where coupled channels still die,
    for what it was asked for, of the weights that it had.

    Args:
        slim: what became of `model`.
        model: the sparse model.
        cycle: of `model`.
        goes_on: whether masks still move, by methods that can go on in a smaller model.
    """
    layers: dict[str, MaskedLayer] = {}
    for path, old in model.named_modules(remove_duplicate=False):
        new = _find(slim, path)
        if isinstance(old, MaskedLayer) and new is not None and not why_not_masked(new):
            layers[path] = mask_layer(new)
            layers[path].set_mask(_mask_left(old.mask, slim.plan.keep.get(f"{path}.weight", ()), layers[path].weight))
    state = _going_on(cycle.state, layers, model) if goes_on else _finished(cycle.state, layers)
    if state.coupling is not None:
        assignments = tuple(layer.assignment for layer in state.layers.values())
        state.coupling, before = couple_again(slim, state.coupling, assignments)
        numbers = {name: tensor for name, tensor in state.memory.items() if name in SINGLE}
        scores = {name: tensor for name, tensor in state.memory.items() if name not in SINGLE}
        state.memory = numbers | {name: _carried(one, torch.from_numpy(before)) for name, one in scores.items()}
    return LifeCycle(
        state=state,
        norms=tuple(norm for norm in cycle.norms if _is_left(norm, slim, layers)),
        unmasked=cycle.unmasked,
        examples=slim.examples,
        guessed=cycle.guessed,
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


def _finished(state: SparsityState, layers: dict[str, MaskedLayer]) -> SparsityState:
    """Return a state that is final, of the layers that are left."""
    result = state.copy()
    result.layers = {name: layer for name, layer in result.layers.items() if name in layers}
    zeros = {name: float((~layers[name].mask).double().mean()) for name in result.layers}
    for name, layer in result.layers.items():
        ruled = layer.assignment.rule is not None
        layer.assignment = replace(layer.assignment, sparsity=zeros[name] if ruled else 0.0)
        layer.reached = zeros[name] if ruled else None
        layer.numbers.pop(WEIGHTS, None)
    total = sum(layers[name].mask.numel() for name in zeros)
    result.sparsity = sum(zeros[name] * layers[name].mask.numel() for name in zeros) / max(1, total)
    result.clock.frozen = True
    return result


def _going_on(state: SparsityState, layers: dict[str, MaskedLayer], model: nn.Module) -> SparsityState:
    """Return a state whose masks go on moving, of the layers that are left: these remember what they were."""
    result = state.copy()
    sizes = {path: module.mask.numel() for path, module in model.named_modules() if isinstance(module, MaskedLayer)}
    result.layers = {name: layer for name, layer in result.layers.items() if name in layers}
    for name, layer in result.layers.items():
        layer.numbers.setdefault(WEIGHTS, sizes[name])
    return result


def _carried(scores: Tensor, before: Tensor) -> Tensor:
    """Return the scores of groups by the numbers that they had before; those without get the mean."""
    before = before.to(scores.device)
    return torch.where(before < 0, scores.mean(), scores[before.clamp_min(0)])


def _is_left(norm: Norm, slim: nn.Module, layers: dict[str, MaskedLayer]) -> bool:
    return _find(slim, norm.path) is not None and all(path in layers for path in norm.convolutions)
