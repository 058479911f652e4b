"""How many bits a sparse tensor takes: its values, and where they belong."""

from __future__ import annotations

import math

from torch import Tensor

from campfire_fx.cost.accelerator import Accelerator


def mask_bits(mask: Tensor, machine: Accelerator) -> float:
    """Return the bits of a weight under a mask of (U, V, P), in the smallest form: its values and their index.

    Forms: all values; kept values with a bit for each position; with an offset for each value and a count for each
    tile; for whole kernels a bit for each kernel; and where every kernel keeps the same number an offset within the
    kernel for each value, with no count.
    """
    total, kept, size = mask.numel(), int(mask.sum()), mask.shape[2]
    values = kept * machine.value_bits
    forms: list[float] = [total * machine.value_bits, values + _index_bits(total, kept, machine)]
    in_kernel = mask.sum(-1)
    least, most = int(in_kernel.min()), int(in_kernel.max())
    if least == most:
        forms.append(values + kept * math.ceil(math.log2(size)))
    if bool(((in_kernel == 0) | (in_kernel == size)).all()):
        forms.append(values + total // size)
    return min(forms)


def scattered_bits(total: int, density: float, machine: Accelerator) -> float:
    """Return the bits of a tensor of `total` values that keeps a fraction of them anywhere, in the smallest form."""
    kept = total * density
    return min(total * machine.value_bits, kept * machine.value_bits + _index_bits(total, kept, machine))


def _index_bits(total: int, kept: float, machine: Accelerator) -> float:
    """Return the bits of a bitmask, or of an offset within the tile for each value and a count for each tile."""
    offset = math.ceil(math.log2(machine.tile + 1))
    return min(total, kept * offset + math.ceil(total / machine.tile) * offset)
