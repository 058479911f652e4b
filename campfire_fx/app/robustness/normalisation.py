"""What lies between an image and a network: mean and standard deviation of each channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from campfire_fx.base.errors import AttackError


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Brings raw images (N, C, H, W) to what a network was trained on: (x - mean) / std in each channel.

    Attributes:
        mean, std: one value for each channel, or one for all; in the units of the raw images. A network that takes
            raw images as they are has `Normalisation((0.0,), (1.0,))`.

    Raises:
        AttackError: the numbers are not finite, a standard deviation is not positive, or their counts differ.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise AttackError(
                f"Normalisation: {len(self.mean)} means and {len(self.std)} standard deviations do not belong together."
                f" Give one of each for every channel, or for all."
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise AttackError(
                f"Normalisation: mean {self.mean}, std {self.std} cannot be divided by. Give finite means and positive"
                f" standard deviations."
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Return (images - mean) / std."""
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def check(self, images: Tensor) -> None:
        """Raise an AttackError if images (N, C, H, W) have another number of channels."""
        if len(self.mean) not in (1, images.shape[1]):
            raise AttackError(
                f"Normalisation: it has {len(self.mean)} channels, the images have {images.shape[1]}. Give the mean and"
                f" std that the network was trained with."
            )
