"""The masks of a whole model: find them, set them, put them back after an optimizer step, count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.compat import children_of
from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.base.sharding import local, reshard
from campfire_fx.base.zeroing import selector, zero_all_
from campfire_fx.layers.masked import MaskedLayer, layers_sharing, plain_class
from campfire_fx.passes.insert_masks import Norm
from campfire_fx.sparsity.channels.targets import Target, record_costs
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.penalty import VALUE
from campfire_fx.sparsity.record import CostRecord, LayerSparsity, SparsityRecord
from campfire_fx.sparsity.selection import WHOLE
from campfire_fx.sparsity.state import SparsityState
from campfire_fx.training.dead_channels import living_groups
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
    raise RegimeError(f"layer '{path}': {why}.{did_you_mean(path, known)}")


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


def copy_masks(source: nn.Module, target: nn.Module, names: Iterable[str]) -> None:
    """Give the layers of a model the masks of another one that has the same layers."""
    for name in (names := list(names)):
        mask, layer = find_layer(source, name, names).mask, find_layer(target, name, names)
        if not torch.equal(mask.to(layer.mask.device), layer.mask):
            set_mask(target, layer, mask)


@torch.no_grad()
def remask(
    model: nn.Module,
    norms: Sequence[Norm],
    optimizers: Iterable[Optimizer],
    more: Iterable[tuple[Tensor, Tensor]] = (),
) -> None:
    """Zero weights under their masks, norms of dead filters, and the optimizer state of both.

    A zeroed gradient is not enough: momentum, moments and decay move a weight after its gradient is gone.
    State is any tensor of floats of the parameter's shape (momentum_buffer, exp_avg, ...). One call does all of it: a
    fraction of a percent of a training step.

    Args:
        model: holds masked layers.
        norms: BatchNorms to be zeroed (weight, bias, running_mean) in the channels whose filters are dead, together
            with the biases of those filters, so that such a channel is exactly zero.
        optimizers: any; parameters they do not hold are skipped.
        more: further tensors, each with its factor of 0 and 1.
    """
    tensors: list[Tensor] = []
    factors: list[Tensor] = []
    states = [optimizer.state for optimizer in optimizers]
    reshard(model.modules())
    for tensor, factor in (*_masked_weights(model), *dead_norms(model, norms), *more):
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


def measure(
    layers: Sequence[PrunedLayer], model: nn.Module, state: SparsityState, unmasked: tuple[tuple[str, str], ...]
) -> SparsityRecord:
    """Count all masks of a model."""
    rows = tuple(map(_measure_layer, layers))
    followed = [row for row in rows if not row.reason]
    due = sum(row.target * row.weights for row in followed)
    schedules = [layer.assignment.schedule for layer in state.ruled.values()]
    end = max(schedule.end for schedule in schedules)
    return SparsityRecord(
        regime=state.regime,
        epoch=state.clock.epoch,
        era=(min(schedule.start for schedule in schedules), end),
        final=state.sparsity,
        target=due / max(1, sum(row.weights for row in followed)),
        frozen=state.clock.frozen or (state.clock.epoch >= end and not any(state.training_masked())),
        layers=rows,
        unmasked=unmasked,
        parameters=sum(p.numel() for p in model.parameters()),
        costs=_measure_costs(layers, model, state),
        penalty=_measure_penalty(state),
        steps=state.clock.updates,
        counted=state.clock.steps_per_epoch is not None,
    )


def _measure_penalty(state: SparsityState) -> float | None:
    """Return what a penalty noted as the epoch began."""
    noted = state.memory.get(VALUE)
    return None if noted is None or bool(noted.isnan()) else float(noted)


def _measure_costs(layers: Sequence[PrunedLayer], model: nn.Module, state: SparsityState) -> tuple[CostRecord, ...]:
    """Return what the slim network would cost, where coupled channels die."""
    coupled = next((layer for layer in layers if layer.state.assignment.method.couples), None)
    if state.coupling is None or coupled is None:
        return ()
    assignment, clock = coupled.state.assignment, state.clock
    target = getattr(assignment.method, "target", Target())
    fraction = 1.0 if clock.frozen else assignment.schedule.fraction(clock.epoch)
    return record_costs(target, state.coupling, living_groups(model, state.coupling), fraction)


def _target(layer: PrunedLayer, true: float) -> float:
    """Return the sparsity due in a layer; where nothing but channels dies, and no layer has a target, what it has."""
    rule = layer.state.assignment.rule
    if rule is None or rule == WHOLE:
        return 0.0 if rule is None else true
    return max(0.0, 1 - (1 - layer.due) * layer.dense_weights / layer.mask.numel())


def _measure_layer(layer: PrunedLayer) -> LayerSparsity:
    assignment, plain = layer.state.assignment, plain_class(layer.module)
    assert plain is not None
    mask = layer.module.as_filters(layer.mask)
    kept_in_kernel = mask.sum(-1)
    live = kept_in_kernel > 0
    n_live, kept = int(live.sum()), int(kept_in_kernel.sum())
    return LayerSparsity(
        name=assignment.name,
        operation=plain.__name__,
        shape=tuple(layer.module.weight.shape),
        final=assignment.sparsity,
        target=_target(layer, (mask.numel() - kept) / mask.numel()),
        weights=mask.numel(),
        zeros=mask.numel() - kept,
        window=1 - kept / (n_live * mask.shape[2]) if n_live else 0.0,
        kernels=live.numel(),
        dead_kernels=live.numel() - n_live,
        filters=mask.shape[0],
        dead_filters=int((~live.any(1)).sum()),
        reason="its mask was set by hand" if layer.state.by_hand else assignment.reason,
        iterate=assignment.method.iterate(layer),
        remark=assignment.remark,
    )
