"""Tallies: how many images a network classifies correctly by its first answer, and by its first five."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from campfire_fx.app.train.batches import WHOLE, Share, plain_batches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.streamed import Streamed

FIRST = 5


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


def accuracy(network: nn.Module, split: Split | Streamed, data: ImageData, *, share: Share = WHOLE) -> float:
    """Return the share of a split's images, in [0, 1], whose class the network finds; its mode is left as it was."""
    return tally(network, split, data, share=share).accuracy


def tally(network: nn.Module, split: Split | Streamed, data: ImageData, *, share: Share = WHOLE) -> Tally:
    """Count the images of a split that a network classifies correctly; its mode is left as it was."""
    training, five = network.training, counts_five(len(data.classes))
    flags, among = [], 0
    try:
        for found, targets in answers(network.eval(), split, data, share=share):
            flags.append(found.argmax(1) == targets)
            among += right_among(found, targets, FIRST) if five else 0
    finally:
        network.train(training)
    which = torch.cat(flags) if flags else torch.zeros(0, dtype=torch.bool)
    every = [int(sum(parts)) for parts in zip(*share.ranks.gathered(int(which.sum()), len(which), among), strict=True)]
    packed = pack(which) if share.ranks.count == 1 else None
    return Tally(right=every[0], images=every[1], among_five=every[2] if five else None, which=packed)


@torch.no_grad()
def answers(
    network: Callable[[Tensor], Tensor], split: Split | Streamed, data: ImageData, *, share: Share = WHOLE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the outputs (N, classes) and classes (N,) of a split, on the CPU, a batch at a time."""
    for images, targets in plain_batches(split, data, share=share):
        yield network(images.to(share.ranks.device)).cpu(), targets


def outputs(network: Callable[[Tensor], Tensor], split: Split | Streamed, data: ImageData) -> Tensor:
    """Return the outputs (N, classes) for a whole split, of a network or of an exported file."""
    return torch.cat([found for found, _ in answers(network, split, data)])


def counts_five(classes: int) -> bool:
    """Say whether top-5 accuracy is told for data of so many classes."""
    return classes > FIRST


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
