"""Run a model again and again, each time as it was given: it may change as it runs, and it is the user's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.base.compat import pytree, writes_to
from campfire_fx.base.untouched import Snapshot, snapshot, training_flags, untouched
from campfire_fx.shrink.copies import private_copy


class Rerun:
    """Runs copies of a model in evaluation mode; a copy that has changed as it ran is not run again.

    `prepare` is what is done to each copy first, `mode` the context in which it runs.
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Callable[[nn.Module], nn.Module] = lambda copied: copied,
        mode: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model = model
        self._prepare = prepare
        self._mode = mode
        self._copy: nn.Module | None = None
        self._state: list[Snapshot] = []

    @property
    def module(self) -> nn.Module:
        """The copy that the next call runs."""
        if self._copy is None or self._snapshots() != self._state:
            self._copy = self._prepare(private_copy(self._model)).eval()
            self._state = self._snapshots()
        return self._copy

    def _snapshots(self) -> list[Snapshot]:
        return [] if self._copy is None else [snapshot(module) for module in self._copy.modules()]

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the output on copies of the inputs, without gradients."""
        args, kwargs = _copies((args, kwargs))
        module = self.module  # outside of the mode, which would have a hand in every tensor that is copied
        with torch.no_grad(), self._mode():
            return _quietly(module)(*args, **kwargs)


class Lent:
    """Runs a model of ours itself, which takes less time than to copy its graphs, and puts back what a run has changed.

    Not for code that writes to tensors behind torch's back, as that of opaque parts may.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the output in evaluation mode on copies of the inputs, without gradients."""
        args, kwargs = _copies((args, kwargs))
        tensors = [*self.module.parameters(), *self.module.buffers()]
        before = [(tensor, writes_to(tensor), tensor.detach().clone()) for tensor in tensors]
        try:
            with untouched(self.module.modules()), training_flags(self.module, False), torch.no_grad():
                return _quietly(self.module)(*args, **kwargs)
        finally:
            with torch.no_grad():
                for tensor, version, value in before:
                    if writes_to(tensor) != version:
                        tensor.copy_(value)


def _quietly(module: nn.Module) -> Callable[..., Any]:
    """Return the call of a module; a graph's own prints to stderr where it fails, as trials of other sizes may."""
    return partial(nn.Module.__call__, module) if isinstance(module, fx.GraphModule) else module


def _copies(inputs: Any) -> Any:
    return pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, inputs)
