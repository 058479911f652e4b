"""Opaque leaves in a comparison of two models: what goes in is compared, what comes out is taken from the first.

Such a leaf may choose by value (a detector keeps its best boxes), and there the last bit decides: left to itself it
could make a great difference of one in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base.nested import tensors_of


class Replay:
    """What crosses the borders of some submodules, by path, in a run of one model and then of another."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.given: list[Tensor] = []
        self.received: list[Tensor] = []
        self._paths = paths
        self._outputs: list[Any] = []

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[None]:
        """Note what enters the submodules in this block (`given`), and what they return."""
        with self._hooks(model, self.given, lambda output: self._outputs.append(_copied(output))):
            yield

    @contextmanager
    def playing(self, model: nn.Module) -> Iterator[None]:
        """Note what enters them (`received`), and let them return what was noted, call by call."""
        outputs = iter(self._outputs)
        with self._hooks(model, self.received, lambda output: next(outputs, output)):
            yield

    @contextmanager
    def _hooks(self, model: nn.Module, inputs: list[Tensor], leave: Callable[[Any], Any]) -> Iterator[None]:
        def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
            inputs.extend(map(_finite, tensors_of((args, kwargs))))

        modules = [model.get_submodule(path) for path in self._paths]
        handles = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in modules]
        handles += [module.register_forward_hook(lambda *call: leave(call[-1])) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _copied(value: Any) -> Any:
    return map_tensors(value, torch.Tensor.clone)


def _finite(tensor: Tensor) -> Tensor:
    """Return a copy with zero in place of what is not finite: a mask of infinities may well enter."""
    return torch.where(tensor.isfinite(), tensor, torch.zeros_like(tensor))
