"""Inputs on which two models are compared: like the example's, with other numbers in them, and of other sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from campfire_fx.base.compat import pytree
from campfire_fx.base.nested import tensors_of

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
_Fill = Callable[[Tensor, list[int], torch.Generator], Tensor]
_STEPS = (-31, -32, 7, 8, 32, 16)  # odd ones first: there a padding that is computed pads
_LONGER = (8, 1, -1)  # tokens
_SMALLEST = 32  # pixels: networks may well refuse images smaller than this


@dataclass(frozen=True, slots=True)
class Trials:
    """Inputs made after an example.

    Images, feature maps and the like get random numbers. Numbers that mean something stay those of the example: whole
    numbers (positions, classes, masks, also those stored as floats), and what has no axis of space (lengths, times),
    unless it is all there is.
    """

    example: Inputs

    def of_its_size(self) -> Iterator[tuple[Inputs, _Fill]]:
        """Yield inputs of the example's shapes, and how they were filled: any numbers; numbers in its range; its own.

        The next is for models that do not run on the one before, or give nothing finite: a logarithm wants what is
        positive, and only the example's own numbers are known to be good.
        """
        for fill in (_normal, _in_range, _as_given):
            yield self._filled(fill, list), fill

    def of_other_sizes(self, fill: _Fill) -> Iterator[Inputs]:
        """Yield inputs of another batch, and of several sizes of images, then of sequences; last the example's."""
        shapes = [leaf.shape for leaf in tensors_of(self.example)]
        for step in _STEPS:
            if any(_resizable(shape, step) for shape in shapes):
                yield self._filled(fill, functools.partial(_other_size, step=step))
        length = _length(tensors_of(self.example))
        for step in _LONGER if length > 1 else ():
            yield self._filled(fill, functools.partial(_other_length, length=length, step=step))
        yield self._filled(fill, functools.partial(_other_size, step=0))

    def _filled(self, fill: _Fill, resized: Callable[[Any], list[int]]) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        floats = [leaf for leaf in tensors_of(self.example) if leaf.is_floating_point()]
        main = max(floats, key=torch.numel, default=None)

        def one(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            free = value.is_floating_point() and (value is main or not _means_something(value))
            return (fill if free else _as_given)(value, resized(value.shape), generator)

        filled: Inputs = pytree.tree_map(one, self.example)
        return filled


def shape_of(inputs: Any) -> tuple[int, ...]:
    """Return the shape of the first tensor."""
    return next((tuple(t.shape) for t in tensors_of(inputs)), ())


def has_batch(inputs: Any, output: Any) -> bool:
    """Return whether the first axis of an output is as long as that of the first input.

    Where it was and is no more, the model has made one sample of what was another's: `view(-1, 1024)` on larger images.
    """
    given, got = ([t.shape[0] for t in tensors_of(value) if t.ndim] for value in (inputs, output))
    return bool(given) and given[0] in got


def _means_something(value: Tensor) -> bool:
    if value.ndim < 3:
        return True
    is_constant = bool((value == value.flatten()[:1]).all())  # zeros and ones stand for any image
    return not is_constant and bool((value == value.round()).all())


def _normal(value: Tensor, shape: list[int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).to(value)


def _in_range(value: Tensor, shape: list[int], generator: torch.Generator) -> Tensor:
    if not value.numel():
        return _normal(value, shape, generator)
    low, high = value.min(), value.max()
    return torch.rand(shape, generator=generator).to(value) * (high - low) + low


def _as_given(value: Tensor, shape: list[int], _: torch.Generator) -> Tensor:
    """Return the numbers given, cut or repeated to another shape."""
    if 0 in value.shape:
        return value.new_zeros(shape)
    for dim, size in enumerate(shape):
        if size != value.shape[dim]:
            value = value.index_select(dim, torch.arange(size, device=value.device) % value.shape[dim])
    return value


def _resizable(shape: torch.Size, step: int) -> bool:
    return len(shape) > 2 and any(step > 0 or size + step >= _SMALLEST for size in shape[2:])


def _length(tensors: list[Tensor]) -> int:
    """Return how long sequences are, (N, L, C), or (N, L) of whole numbers; 0 where the example has none."""
    lengths = (t.shape[1] for t in tensors if t.ndim == 3 or (t.ndim == 2 and not t.is_floating_point()))
    return next(lengths, 0)


def _other_length(shape: torch.Size, length: int, step: int) -> list[int]:
    """Another batch, and `step` more along the second dimension of whatever is as long as the sequences are."""
    batch, *rest = _other_size(shape, 0)
    if len(shape) in (2, 3) and shape[1] == length:
        rest[0] += step
    return [batch, *rest]


def _other_size(shape: torch.Size, step: int) -> list[int]:
    """One more in the batch, two for many; `step` more pixels along each dimension of space that stays large enough."""
    batch = [size + 1 if size < 3 else 2 for size in shape[:1]]
    if len(shape) < 3:
        return [*batch, *shape[1:]]
    space = [s + step if step > 0 or s + step >= _SMALLEST else s for s in shape[2:]]
    return [*batch, shape[1], *space]
