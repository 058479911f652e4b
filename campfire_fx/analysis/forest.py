"""Which labels live or die together: a union-find forest, and joins beside it that leave it as it is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from campfire_fx.analysis.labels import FIXED, collapse

Numbers = NDArray[np.int64]


class LabelForest:
    """A growing union-find forest over labels; the root of a set is its smallest label, so FIXED always wins.

    Parents are kept in numpy: most questions are about a few hundred labels, where its calls cost a third of torch's.
    A label that is not given out yet is its own parent.
    """

    def __init__(self) -> None:
        self._parent = np.arange(1024)
        self._size = 1

    def __len__(self) -> int:
        return self._size

    def find(self, labels: Tensor) -> Tensor:
        """Return the root of each label, same shape; stretched (stride 0) dimensions stay stretched."""
        return _like(self.rooted(_whole(labels)), labels)

    def roots(self) -> Tensor:
        """Return the root of every label, int64 of shape (len(self),)."""
        return torch.from_numpy(self.rooted(np.arange(self._size)))

    def rooted(self, labels: Numbers) -> Numbers:
        """Return the root of each label, given out or not."""
        return _rooted(self._parent, labels)

    def make_room(self, size: int) -> None:
        """Make room for so many labels, of which none is given out."""
        if size > self._parent.size:
            self._parent = np.concatenate([self._parent, np.arange(self._parent.size, 2 * size)])

    def enter(self, joins: Joins) -> None:
        """Give out and join the labels that were given out and joined beside the forest as it is now."""
        assert joins.start == self._size, "these labels were found beside another forest"
        self._size = joins.size
        for labels, roots in joins.joined():
            self._parent[labels] = roots


class Joins:
    """Labels given out and joined beside a forest, which stays as it is.

    Attributes:
        start, size: the number of labels of the forest, and with those given out here.
    """

    __slots__ = ("_forest", "_joined", "_steps", "size", "start")

    def __init__(self, forest: LabelForest) -> None:
        self._forest = forest
        self.start = self.size = len(forest)
        self._joined: list[Numbers] = []
        self._steps: Numbers | None = None  # from a root of the forest down to its parent here, 0 at a root

    def fresh(self, count: int) -> Tensor:
        """Return `count` new labels, float64 of shape (count,)."""
        first, self.size = self.size, self.size + count
        self._forest.make_room(self.size)
        if self._steps is not None:
            self._steps = np.concatenate([self._steps, np.zeros(count, dtype=np.int64)])
        return torch.arange(first, self.size, dtype=torch.float64)

    def find(self, labels: Tensor) -> Tensor:
        """Return the root of each label, as `LabelForest.find` does."""
        return _like(self._rooted(_whole(labels)), labels)

    def join(self, first: Tensor, second: Tensor) -> None:
        """Join labels position by position; the shapes must broadcast."""
        one, other = self._rooted(_whole(first)), self._rooted(_whole(second))
        while True:
            differ = one != other
            if not differ.any():
                return
            one, other = (side[differ] for side in np.broadcast_arrays(one, other))
            high = np.maximum(one, other)
            # Of several steps from one root the longest wins; the others still differ in the next round.
            self._step(high, high - np.minimum(one, other))
            one, other = self._below(one), self._below(other)

    def fix(self, labels: Tensor) -> int:
        """Pin labels for good; returns how many distinct labels were removable before."""
        roots = self._rooted(_whole(labels))
        roots = roots[roots != FIXED]
        if not roots.size:
            return 0
        place, steps = np.arange(roots.size), self._step(roots, roots - FIXED)
        steps[roots] = place
        distinct = steps[roots] == place  # of equal roots, the last
        steps[roots] = roots - FIXED
        return int(np.count_nonzero(distinct))

    def joined(self) -> list[tuple[Numbers, Numbers]]:
        """Return the roots of the forest that are none here, in pieces, and the roots that they have here."""
        return [(labels, self._below(labels)) for labels in self._joined]

    def _step(self, roots: Numbers, steps: Numbers) -> Numbers:
        """Lead from roots down to parents; returns all steps."""
        if self._steps is None:
            self._steps = np.zeros(self.size, dtype=np.int64)
        np.maximum.at(self._steps, roots, steps)
        self._joined.append(roots)
        return self._steps

    def _rooted(self, labels: Numbers) -> Numbers:
        return self._below(self._forest.rooted(labels))

    def _below(self, roots: Numbers) -> Numbers:
        """Return the roots here of labels that are roots in the forest."""
        while self._steps is not None:
            steps = self._steps[roots]
            if not steps.any():
                break
            roots = roots - steps
        return roots


def _rooted(parent: Numbers, labels: Numbers) -> Numbers:
    """Return the root of each label, and let the labels point straight at them."""
    root = parent[labels]
    higher = parent[root]
    if (higher == root).all():
        return root
    while not (higher == root).all():
        root, higher = higher, parent[higher]
    parent[labels] = root
    return root


def _whole(labels: Tensor) -> Numbers:
    return collapse(labels).numpy().astype(np.int64)


def _like(roots: Numbers, labels: Tensor) -> Tensor:
    root = torch.from_numpy(np.asarray(roots, dtype=np.float64))
    return root if root.shape == labels.shape else root.expand(labels.shape)
