"""What a label run finds out about a model: labels, the layers that mix channels, and what is pinned and why.

A rule only reads it; what it finds is a `Found`, which is entered when the rule is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.forest import LabelForest
from campfire_fx.analysis.labels import FIXED, Labelled, not_zero
from campfire_fx.base.records import Record
from campfire_fx.layers.layout import Layout


@dataclass(frozen=True, slots=True)
class Pin(Record):
    """Channels that must be kept: at which node or layer, how many labels, and why."""

    node: str
    channels: int
    reason: str


@dataclass(frozen=True, slots=True)
class MixCall:
    """One use of a weight.

    Attributes:
        graph: number of the graph in the analysis.
        node: the node that reads the weight.
        source: the node of the activation read.
        channel_dim: where channels lie in that activation.
        padded: zeros are put around the input (or, for a transposed convolution, its sums differ by position),
            so a constant other than zero does not stay uniform.
        module: the module called, or None for a functional call.
        out_dim: where channels lie in the result.
    """

    graph: int
    node: fx.Node
    source: fx.Node
    channel_dim: int
    padded: bool
    module: nn.Module | None
    out_dim: int


@dataclass(slots=True, eq=False)
class Mixer:
    """A weight that mixes channels: it consumes `inputs` and makes `outputs` (label vectors, C and K long).

    A gate is entered as a virtual mixer: it has the same flow of labels, and no weight in the model.
    """

    name: str
    operation: str
    weight: Tensor
    layout: Layout
    inputs: Tensor
    outputs: Tensor
    calls: tuple[MixCall, ...] = ()
    virtual: bool = False
    _reads: Tensor | None = None

    def reads(self) -> Tensor:
        """Return which kernels are not zero: bool (groups, outputs per group, inputs per group)."""
        if self._reads is None:
            kernels = self.layout.kernels(self.weight.detach())
            taps = kernels.shape[-1]
            if kernels.is_complex():
                kernels = kernels.abs()
            # A product with ones sums the taps three times as fast as counting those that are not zero.
            self._reads = not_zero(kernels.squeeze(-1) if taps == 1 else kernels.abs() @ kernels.new_ones(taps))
        return self._reads


@dataclass(slots=True)
class Structure:
    """The channel structure of a model, filled by label runs over all of its graphs.

    Attributes:
        names: the path of each parameter and buffer, by its id.
        islands: ids of the modules whose graphs are run.
        forest: all labels.
        tensors: parameters and buffers that have one label per element: id -> (tensor, labels).
        mixers: weights that mix channels, by the id of the weight.
        biases: bias tensors of mixers: id -> (tensor, label vector).
        sizes: module attributes that count channels: (id of module, name) -> (module, name, label vector).
        wholes: per node, rows of channels of which each goes whole or not at all, (rows, channels in a row).
        pins: what cannot be removed, with the reason.
        unstacked: nodes that reduce dimensions of fixed length, along which branches or channels lie.
        settled: nodes whose rule is another than their row's, because of what they were given: where a rule gave up
            and pinned what entered, or a proof took the place of a row.
        joined: per concatenation, the labels of its operands that depend on no activation.
        graph: number of the graph being run.
    """

    names: dict[int, str] = field(default_factory=dict)
    islands: frozenset[int] = frozenset()
    forest: LabelForest = field(default_factory=LabelForest)
    tensors: dict[int, tuple[Tensor, Labelled]] = field(default_factory=dict)
    mixers: dict[int, Mixer] = field(default_factory=dict)
    biases: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    sizes: dict[tuple[int, str], tuple[nn.Module, str, Tensor]] = field(default_factory=dict)
    wholes: dict[fx.Node, Tensor] = field(default_factory=dict)
    pins: list[Pin] = field(default_factory=list)
    unstacked: dict[fx.Node, bool] = field(default_factory=dict)
    settled: dict[fx.Node, Any] = field(default_factory=dict)
    joined: dict[fx.Node, dict[fx.Node, Labelled]] = field(default_factory=dict)
    graph: int = 0

    def labels_of(self, tensor: Tensor) -> Tensor | None:
        """Return the labels that a parameter or buffer was given, one per element; None: none, or it mixes channels."""
        if id(tensor) in self.tensors:
            return self.tensors[id(tensor)][1].labels
        return self.biases[id(tensor)][1] if id(tensor) in self.biases else None

    def ports(self, tensor: Tensor) -> list[Tensor]:
        """Return the labels on which the shape of a parameter or buffer depends."""
        mixer, labels = self.mixers.get(id(tensor)), self.labels_of(tensor)
        return ([] if mixer is None else [mixer.inputs, mixer.outputs]) + ([] if labels is None else [labels.flatten()])


def fixed(shape: Sequence[int]) -> Labelled:
    """Return the labels of a tensor none of whose channels can be removed."""
    return Labelled(torch.full((), float(FIXED), dtype=torch.float64).expand(tuple(shape)))
