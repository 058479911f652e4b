"""Weights packed as a list of those that are not zero: plain tensors, the same for every image size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from campfire_fx.base.errors import KernelError

_MOST = 2**31 - 1  # positions are 32-bit


class Geometry(NamedTuple):
    """How a convolution moves over its input: pairs (height, width); padding is zeros on both sides."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_size(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what comes out for images of `size`."""
        rows, columns = (
            (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for length, taps, stride, padding, dilation in zip(
                size, kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return rows, columns


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """The weights of one convolution that are not zero.

    Attributes:
        positions: int32 (n,), increasing: where each stands in the flat weight.
        values: float32 (n,).
        shape: of the weight, (K, C / groups, R, S).
        geometry: how the convolution moves over its input.
    """

    positions: Tensor
    values: Tensor
    shape: tuple[int, int, int, int]
    geometry: Geometry

    @staticmethod
    def of(weight: Tensor, geometry: Geometry) -> Packed:
        """Pack a float32 weight (K, C / groups, R, S); NaN and infinity are not zero.

        Raises:
            KernelError: the weight is none that the kernels can compute with.
        """
        if weight.dim() != 4 or weight.dtype != torch.float32 or weight.device.type != "cpu":
            given = f"{weight.dtype} {tuple(weight.shape)} on {weight.device}"
            raise KernelError(
                f"Cannot pack a weight: it is {given}. Give float32 of the shape (K, C / groups, R, S) on the CPU."
            )
        if weight.numel() > _MOST:
            raise KernelError(f"Cannot pack a weight: it has {weight.numel()} numbers, and the most is {_MOST}.")
        if weight.shape[0] % geometry.groups:
            raise KernelError(
                f"Cannot pack a weight: its {weight.shape[0]} filters do not fall into {geometry.groups} groups. "
                "Give the groups of the convolution."
            )
        flat = weight.detach().reshape(-1)
        positions = flat.nonzero().reshape(-1)
        filters, channels, rows, columns = weight.shape
        return Packed(positions.int(), flat[positions].clone(), (filters, channels, rows, columns), geometry)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.shape[1] * self.geometry.groups

    def dense(self) -> Tensor:
        """Return the weight with its zeros."""
        weight = self.values.new_zeros(self.shape)
        weight.view(-1)[self.positions.long()] = self.values
        return weight
