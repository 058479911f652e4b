"""Gathering: scores from data of a model that is not trained, from a few batches; the model stays as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.sharding import is_sharded
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import CURVATURE, GRADIENTS, INPUTS, Method
from campfire_fx.training.life_cycle import LifeCycle

Loss = Callable[[Any, Any], Tensor]


@torch.inference_mode(mode=False)
def gather(model: nn.Module, cycle: LifeCycle, loss_fn: Loss, batches: Iterable[Any]) -> None:
    """Let methods see of batches what their choice is made of; see `Method.gathers`.

    Of several processes, each with its own batches, all see the mean.

    Raises:
        RegimeError: no method asks for data, or it got none.
    """
    wanted = {method.gathers for method, _ in cycle.gathering}
    if not wanted:
        raise RegimeError("gather: this regime's score needs no data. Call finalize(), or choose score='taylor'.")
    given = list(batches)
    if not given:
        raise RegimeError("gather: there was no batch. Give a loader that yields some.")
    with as_it_was(model):
        model.train(any(method.gathers_in_training_mode for method, _ in cycle.gathering))
        if GRADIENTS in wanted:
            for batch in given:
                _forget_gradients(model)
                with torch.enable_grad():
                    loss_fn(model, batch).backward()
                _agree(model)
                cycle.gather(model)
        if CURVATURE in wanted:
            _curvature(model, cycle, loss_fn, given)
            _agree(model)
            cycle.gather(model)
        if INPUTS in wanted:
            with _watched(model, cycle), torch.no_grad():
                for batch in given:
                    loss_fn(model, batch)
            if _several():
                for key, seen in cycle.state.memory.items():  # averaged where the backend takes tensors from
                    cycle.state.memory[key] = _mean(seen.to(next(model.parameters()).device, copy=True)).to(seen.device)


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Put back the modes, the gradients and the buffers of a model in the end."""
    modes = {module: module.training for module in model.modules()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers.items():
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def gather_first(model: nn.Module, cycle: LifeCycle, loss_fn: Loss, batches: Iterator[Any], count: int = 8) -> None:
    """Gather from a few batches where a method has to see data before the training, and do nothing where none has."""
    if any(method.gathers in (CURVATURE, INPUTS) for method, _ in cycle.gathering):
        gather(model, cycle, loss_fn, itertools.islice(batches, count))


def _forget_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None


def _curvature(model: nn.Module, cycle: LifeCycle, loss_fn: Loss, batches: Sequence[Any]) -> None:
    """Leave H g in the place of gradients of the weights that the methods have, both summed over the batches.

    H g is the gradient of <g, g'> by the weights, where g is held fixed (Pearlmutter 1994).
    """
    paths = [path for method, names in cycle.gathering if method.gathers == CURVATURE for path in names]
    weights = list(dict.fromkeys(cycle.layer(model, path).module.weight for path in paths))
    weights = [weight for weight in weights if weight.requires_grad]

    def gradients(batch: Any, *, again: bool) -> Sequence[Tensor]:
        return torch.autograd.grad(
            loss_fn(model, batch), weights, create_graph=again, allow_unused=True, materialize_grads=True
        )

    with torch.enable_grad():
        every = [gradients(batch, again=False) for batch in batches]
        fixed = [torch.stack(of_one).sum(0) for of_one in zip(*every, strict=True)]
        _forget_gradients(model)
        for batch in batches:
            parts = zip(fixed, gradients(batch, again=True), strict=True)
            torch.stack([(one * other).sum() for one, other in parts]).sum().backward()


def _agree(model: nn.Module) -> None:
    """Average gradients over the processes of a run, but those that are spread over them: these are means already."""
    for parameter in model.parameters() if _several() else ():
        if parameter.grad is not None and not is_sharded(parameter.grad):
            _mean(parameter.grad)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _mean(tensor: Tensor) -> Tensor:
    """Average a tensor over the processes, in place."""
    dist.all_reduce(tensor)
    return tensor.div_(dist.get_world_size())


@contextmanager
def _watched(model: nn.Module, cycle: LifeCycle) -> Iterator[None]:
    """Show methods what their layers are given, while it lasts."""
    handles = []
    for method, names in cycle.gathering:
        for path in names if method.gathers == INPUTS else ():
            layer = cycle.layer(model, path)
            handles.append(layer.module.register_forward_pre_hook(partial(_show, method, layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _show(method: Method, layer: PrunedLayer, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
    method.watch(layer, inputs[0].detach())
