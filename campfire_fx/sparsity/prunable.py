"""What a regime needs to know of a layer to say what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class PrunableLayer:
    """A layer that holds a mask.

    Attributes:
        name: its path.
        operation: "Conv2d", "Linear", ...
        kernel: weights in each of its kernels.
        linear: whether it is a linear layer.
        stem: whether it reads the model's input.
        shape: of its weight.
        head: whether nothing with a weight comes between it and the model's output.
        groups: of a convolution; 1 for all other layers.
    """

    name: str
    operation: str
    kernel: int
    linear: bool
    stem: bool
    shape: tuple[int, ...] = ()
    head: bool = False
    groups: int = 1


class Fit(NamedTuple):
    """Whether a regime's rule is for a layer, and what reports say of that: why not, or what is special about it."""

    takes_part: bool
    remark: str = ""


Fits = Callable[[PrunableLayer], Fit]
