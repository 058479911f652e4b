"""What was given as an example and is none: a shape, an array, a loader. Said in one sentence, with what to give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from campfire_fx.base.compat import pytree

_ADVICE = (
    (("numpy", "ndarray"), "a NumPy array", "a tensor, as torch.from_numpy(array)"),
    (("torch", "DataLoader"), "a DataLoader", "the images of one of its batches"),
    (("torch", "Dataset"), "a data set", "the images of one of its batches"),
    (("PIL", "Image"), "a picture of Pillow", "a tensor, as torchvision.transforms.functional.to_tensor(image)[None]"),
    (("torch", "Module"), "a model", "a tensor"),
    (("builtins", "str"), "text", "a tensor, as torch.randn(1, 3, 224, 224)"),
)
"""(package, class), what it is called, what to give instead; the classes are not imported, but known by name."""


def unfit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return what is wrong with inputs that a model does not run on, and what to give; None where it is not plain."""
    given: list[Any] = [*args, *kwargs.values()]
    shape = next((sizes for sizes in (args, *given) if _is_shape(sizes)), None)
    if shape is not None:
        return f"{tuple(shape)} is a shape. Give a tensor of it, as torch.randn{tuple(shape)}."
    for leaf in pytree.tree_leaves((args, kwargs)):
        for place, name, advice in _ADVICE:
            if any((kind.__module__.partition(".")[0], kind.__name__) == place for kind in type(leaf).__mro__):
                return f"they hold {name}, which the model does not run on. Give {advice}."
    if len(given) == 1 and isinstance(given[0], list) and len(given[0]) == 1 and isinstance(given[0][0], Tensor):
        return "they are a list, which the model does not run on. Give the tensor without the list."
    return None


def without_values(inputs: Any, device: torch.device) -> str | None:
    """Return what is wrong with tensors that hold no values, where the model on `device` does; None if nothing is."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if device.type != "meta" and any(tensor.is_meta for tensor in tensors):
        return "they are on the meta device, without values. Give tensors with values, as torch.randn makes them."
    if tensors and not any(tensor.numel() for tensor in tensors):
        return "there are no samples in them. Give one sample, or more."
    return None


def _is_shape(value: Any) -> bool:
    """Return whether a value is sizes and nothing else."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, (str, bytes, os.PathLike))
        and len(value) > 1
        and all(type(size) is int for size in value)
    )
