"""ERK: how a total sparsity is spread over layers by their shapes (Erdos-Renyi with the kernel's axes)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from campfire_fx.base.errors import RegimeError


def erk_densities(shapes: Mapping[str, Sequence[int]], sparsity: float) -> dict[str, float]:
    """Return the fraction of weights that each layer keeps, so that all layers together keep 1 - sparsity.

    A layer keeps eps * sum(shape) / prod(shape) of its weights, over all axes of its shape (SWAT-ERK, after RigL).
    Whoever would keep more than all of them is dense, and eps is solved again for the others.

    Args:
        shapes: layer -> shape of its weight, (out, in per group, height, width) or (out, in).
        sparsity: of all these weights together, in [0, 1).

    Raises:
        RegimeError: the sparsity is out of range, or a shape is empty.
    """
    if not 0 <= sparsity < 1:
        raise RegimeError(f"ERK: a sparsity of {sparsity!r} is outside [0, 1).")
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if not shape or sizes[name] < 1:
            raise RegimeError(f"ERK: layer {name} has a weight of shape {tuple(shape)}, which holds nothing.")
    kept = (1 - sparsity) * sum(sizes.values())
    dense: set[str] = set()
    while True:
        sparse = [name for name in shapes if name not in dense]
        if not sparse:
            return dict.fromkeys(shapes, 1.0)
        # eps * raw density * size = eps * sum(shape) weights are kept of each.
        eps = (kept - sum(sizes[name] for name in dense)) / sum(sum(shapes[name]) for name in sparse)
        full = {name for name in sparse if eps * sum(shapes[name]) > sizes[name]}
        if not full:
            return {n: 1.0 if n in dense else eps * sum(shapes[n]) / sizes[n] for n in shapes}
        dense |= full
