"""Tallies: how many images a network classifies correctly by its first answer and, of many classes, its first five."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

FIRST = 5
_MANY = 100  # classes, as CIFAR-100, Tiny-ImageNet and ImageNet have them: with few, the first five say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Images that a network was asked about.

    Attributes:
        right: whose class was its first answer.
        images: how many they were; those that cannot be read do not count.
        among_five: whose class was among its first five answers; None where there are few classes.
        which: those that were right, as `pack` writes them, so that networks can be compared image by image; None where
            several processes shared them.
    """

    right: int
    images: int
    among_five: int | None = None
    which: str | None = field(default=None, compare=False)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, in [0, 1]."""
        return self.right / self.images

    @property
    def top5(self) -> float | None:
        """Top-5 accuracy, in [0, 1]."""
        return None if self.among_five is None else self.among_five / self.images


def counts_five(classes: int) -> bool:
    """Say whether top-5 accuracy is told for data of so many classes."""
    return classes >= _MANY


def right_among(outputs: Tensor, targets: Tensor, first: int) -> int:
    """Count the images (N,) whose class is among the `first` largest outputs (N, classes)."""
    if first == 1:
        return int((outputs.argmax(1) == targets).sum())
    found = outputs.topk(min(first, outputs.shape[1]), dim=1).indices
    return int((found == targets.unsqueeze(1)).any(1).sum())


def pack(flags: Tensor) -> str:
    """Return bools (N,) as hexadecimal text, first image first."""
    bits = "".join("1" if flag else "0" for flag in flags.tolist())
    return f"{int('1' + bits, 2):x}"


def unpack(text: str) -> Tensor:
    """Undo `pack`."""
    return torch.tensor([bit == "1" for bit in f"{int(text, 16):b}"[1:]])
