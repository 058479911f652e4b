"""Channel labels: the identity of every removable channel, and which of them live or die together.

A *label* is a whole number. An activation is described by a float64 tensor of its own shape that holds, at
each position, the label of the channel found there (float64 so that any torch kernel can move labels about;
whole numbers are exact in it up to 2**53). Labels that meet in one operation are joined in a union-find forest.

Label 0 (`FIXED`) is reserved for "not removable": joining a label with it pins that label.
Literal zeros need no reserved label: zeros padded onto a channel axis are given fresh labels, like the
output of any producer, so that they can be removed together with the channels they are added to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FIXED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The labels of one activation or parameter: float64, of the same shape as the tensor described."""

    labels: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor described."""
        return self.labels.shape


class LabelForest:
    """A growing union-find forest over labels; the root of a set is its smallest label, so FIXED always wins."""

    def __init__(self) -> None:
        self._parent = torch.zeros(1024, dtype=torch.int64)
        self._size = 1

    def __len__(self) -> int:
        return self._size

    def fresh(self, count: int) -> Tensor:
        """Return `count` new labels, float64 of shape (count,)."""
        start, self._size = self._size, self._size + count
        while self._size > self._parent.numel():
            self._parent = torch.cat([self._parent, torch.zeros_like(self._parent)])
        new = torch.arange(start, self._size)
        self._parent[start : self._size] = new
        return new.double()

    def find(self, labels: Tensor) -> Tensor:
        """Return the root of each label, same shape; stretched (stride 0) dimensions stay stretched."""
        small = collapse(labels).long()
        root = self._parent[small]
        while True:
            higher = self._parent[root]
            if torch.equal(higher, root):
                break
            root = higher
        self._parent[small] = root  # path compression
        return root.double().expand(labels.shape)

    def join(self, first: Tensor, second: Tensor) -> None:
        """Join labels position by position; the shapes must broadcast."""
        first, second = torch.broadcast_tensors(collapse(first), collapse(second))
        pairs = torch.stack([first.reshape(-1), second.reshape(-1)]).long()
        while True:
            roots = self.find(pairs).long()
            differ = roots[0] != roots[1]
            if not differ.any():
                return
            pairs = roots[:, differ]
            # Of several pairs that write one parent the smallest wins; the others still differ in the next round.
            self._parent.scatter_reduce_(0, pairs.amax(0), pairs.amin(0), "amin")

    def fix(self, labels: Tensor) -> int:
        """Pin labels for good; returns how many distinct labels were removable before."""
        roots = torch.unique(self.find(collapse(labels)))
        roots = roots[roots != FIXED].long()
        self._parent[roots] = FIXED
        return roots.numel()

    def roots(self) -> Tensor:
        """Return the root of every label, int64 of shape (len(self),)."""
        return self.find(torch.arange(self._size).double()).long()


def collapse(labels: Tensor) -> Tensor:
    """Narrow every stretched dimension (stride 0) to length 1: the same labels, without the repetition."""
    for dim, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if stride == 0 and size > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def varies(labels: Tensor, dim: int) -> bool:
    """Whether labels (already roots) differ along one dimension."""
    small = collapse(labels)
    if small.shape[dim] <= 1:
        return False
    return not torch.equal(small, small.narrow(dim, 0, 1).expand_as(small))


def lines(labels: Tensor, dim: int) -> Tensor:
    """View labels as (size of `dim`, everything else), stretched dimensions narrowed to one.

    A length-1 dimension that only looks stretched is restored, so the first axis always has the true size.
    """
    size = labels.shape[dim]
    small = collapse(labels).movedim(dim, 0)
    return small.expand(size, *small.shape[1:]).reshape(size, -1)
