"""A weight as the search for what is alive sees it: which inputs its live outputs read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from campfire_fx.analysis.labels import any_along
from campfire_fx.analysis.rules.structure import Mixer

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Arrays:
    """What the search asks for again and again, as numpy sees it; `needed`: which inputs cannot be folded."""

    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    reads: Mask
    needed: Mask


@dataclass(slots=True, eq=False)
class Reader:
    """A mixing weight as liveness sees it; arrays are per group: (G, K/G), (G, C/G), reads (G, K/G, C/G).

    Attributes:
        constant: what each input channel brings if it is constant (in all calls alike), else NaN.
        padded: zeros surround the input in some call, so constants other than zero must be merged, not folded.
        foldable: which inputs are constant: they can be dropped, after folding or merging, (G, C/G).
        mergeable: which inputs are non-zero constants behind padding, (G, C/G); None where none are.
        used, written: which inputs any output reads, (G, C/G); which outputs read anything, (G, K/G).
    """

    mixer: Mixer
    inputs: Tensor
    outputs: Tensor
    reads: Tensor
    constant: Tensor
    padded: bool
    foldable: Tensor = field(init=False)
    used: Tensor = field(init=False)
    written: Tensor = field(init=False)
    mergeable: Tensor | None = field(init=False)
    _seen: Mask = field(init=False)
    _read: Mask = field(init=False)
    _arrays: _Arrays = field(init=False)
    _done: bool = False
    _counts: tuple[int, int] = (-1, -1)

    def __post_init__(self) -> None:
        self.foldable = ~self.constant.isnan()
        self.used, self.written = any_along(self.reads, 1), any_along(self.reads, 2)
        shifts = self.foldable & (self.constant != 0) if self.padded else None
        self.mergeable = shifts if shifts is not None and shifts.any() else None
        self._seen = np.zeros(self.outputs.shape, dtype=np.bool_)
        self._read = np.zeros(self.inputs.shape, dtype=np.bool_)
        self._arrays = _Arrays(self.inputs.numpy(), self.outputs.numpy(), self.reads.numpy(), ~self.foldable.numpy())

    def advance(self, alive: Tensor) -> bool:
        """Look at the outputs that have come alive since the last time; returns whether there were any.

        Labels only ever come alive during a search, so each row of a weight is looked at once.
        """
        if self._done:
            return False
        seen, read, reads = self._seen, self._read, self._arrays.reads
        new = alive.numpy()[self._arrays.outputs]
        new &= ~seen
        if not new.any():
            return False
        seen |= new
        self._done = bool(seen.all())
        if self._done:
            read[...] = self.used.numpy()
        elif new.shape[0] == 1:
            read[0] |= reads[0, new[0]].any(0)
        else:
            read |= (reads & new[..., None]).any(1)
        return True

    def spread(self, alive: Tensor) -> bool:
        """Mark what the outputs that have come alive need; returns whether there were any."""
        if not self.advance(alive):
            return False
        alive.numpy()[self._arrays.inputs[self._read & self._arrays.needed]] = True
        return True

    def read_by_live(self, alive: Tensor) -> Tensor:
        """Which inputs some live output reads. Shape (G, C/G)."""
        self.advance(alive)
        return torch.from_numpy(self._read)

    def needed(self, alive: Tensor) -> Tensor:
        """Which inputs some live output reads that cannot be folded. Shape (G, C/G)."""
        return self.read_by_live(alive) & ~self.foldable

    def merged(self, alive: Tensor) -> Tensor | None:
        """Which inputs are non-zero constants that must be merged into one of them, (G, C/G); None: none ever are."""
        return None if self.mergeable is None else self.mergeable & self.read_by_live(alive)

    def moved(self, alive: Tensor) -> bool:
        """Whether an input has come alive, or is read, since the last time of asking."""
        self.advance(alive)
        counts = (int(alive.numpy()[self._arrays.inputs].sum()), int(self._read.sum()))
        before, self._counts = self._counts, counts
        return before != counts
