"""What a label run finds out about a model: labels, the layers that mix channels, and what is pinned and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.labels import FIXED, LabelForest, Labelled, lines, not_zero
from campfire_fx.layers.layout import Layout

_MOST_LABELS = 1 << 18


@dataclass(frozen=True, slots=True)
class Pin:
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
    calls: list[MixCall] = field(default_factory=list)
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
    pins: list[Pin] = field(default_factory=list)
    unstacked: set[fx.Node] = field(default_factory=set)
    settled: dict[fx.Node, Any] = field(default_factory=dict)
    joined: dict[fx.Node, dict[fx.Node, Labelled]] = field(default_factory=dict)
    graph: int = 0

    def pin(self, where: str, reason: str, *values: Labelled | Tensor) -> None:
        """Fix labels, and note where and why if any was removable until now."""
        count = sum(self.forest.fix(v.labels if isinstance(v, Labelled) else v) for v in values)
        if count:
            self.pins.append(Pin(where, count, reason))

    def channels(self, value: Labelled, dim: int) -> Tensor:
        """Return the label of each channel along `dim`; labels that share a channel are joined."""
        per_channel = lines(value.labels, dim)
        if per_channel.shape[1] > 1:
            self.forest.join(per_channel, per_channel[:, :1])
        return self.forest.find(per_channel[:, 0])

    def tensor(self, tensor: Tensor) -> Labelled:
        """Return the labels of a parameter or buffer, one per element, fresh at its first use.

        One too large to be a scale, shift or position table is a weight on its way into a computation: it is pinned.
        """
        if tensor.numel() > _MOST_LABELS:
            self.pin_tensor(tensor)
        known = self.tensors.get(id(tensor))
        if known is None:
            fresh = self.forest.fresh(tensor.numel()).view(tensor.shape)
            known = self.tensors[id(tensor)] = (tensor, Labelled(fresh))
        return known[1]

    def labels_of(self, tensor: Tensor) -> Tensor | None:
        """Return the labels that a parameter or buffer was given, one per element; None: none, or it mixes channels."""
        if id(tensor) in self.tensors:
            return self.tensors[id(tensor)][1].labels
        return self.biases[id(tensor)][1] if id(tensor) in self.biases else None

    def ports(self, tensor: Tensor) -> list[Tensor]:
        """Return the labels on which the shape of a parameter or buffer depends."""
        mixer, labels = self.mixers.get(id(tensor)), self.labels_of(tensor)
        return ([] if mixer is None else [mixer.inputs, mixer.outputs]) + ([] if labels is None else [labels.flatten()])

    def pin_tensor(self, tensor: Tensor) -> None:
        """Say that a parameter or buffer must keep its shape, without giving each element a label."""
        if id(tensor) in self.tensors:
            self.forest.fix(self.tensors[id(tensor)][1].labels)
        self.tensors[id(tensor)] = (tensor, fixed(tensor.shape))

    def owns(self, channels: Tensor, *vectors: Tensor | None) -> None:
        """Say that parameters or buffers of shape (channels,) have one entry per channel."""
        for vector in vectors:
            if vector is None:
                continue
            if id(vector) not in self.tensors and vector.shape == channels.shape and channels.numel() <= _MOST_LABELS:
                self.tensors[id(vector)] = (vector, Labelled(channels))
            else:
                self.forest.join(self.tensor(vector).labels.reshape(-1), channels)

    def counts(self, module: nn.Module | None, name: str, channels: Tensor) -> None:
        """Say that an attribute of a module is the number of these channels."""
        if module is not None and hasattr(module, name):
            self.sizes[(id(module), name)] = (module, name, channels)

    def mixer(self, weight: Tensor, operation: str, layout: Layout, channels: Tensor) -> Mixer:
        """Return the record of a weight that reads `channels`, with fresh output labels at its first use.

        With one input and one output channel per group (a depthwise convolution) nothing is mixed, so each output
        channel keeps the label of its input channel: they can only be removed together.
        """
        mixer = self.mixers.get(id(weight))
        if mixer is None:
            groups, outputs, inputs, _ = layout.kernels(weight).shape
            name = self.names.get(id(weight), "?").removesuffix(".weight")
            depthwise = groups > 1 and inputs == outputs == 1
            made = channels if depthwise else self.forest.fresh(groups * outputs)
            mixer = self.mixers[id(weight)] = Mixer(name, operation, weight, layout, channels, made)
        else:
            self.forest.join(mixer.inputs, channels)
        return mixer

    def stretch(self, labels: Tensor) -> Labelled:
        """Return labels as roots, every dimension along which they do not vary stretched (stride 0)."""
        labels = self.forest.find(labels)
        for dim in range(labels.ndim):
            if labels.shape[dim] > 1 and labels.stride(dim) != 0:
                first = labels.narrow(dim, 0, 1)
                if torch.equal(labels, first.expand_as(labels)):
                    labels = first.expand_as(labels)
        return Labelled(labels)


def fixed(shape: Sequence[int]) -> Labelled:
    """Return the labels of a tensor none of whose channels can be removed."""
    return Labelled(torch.full((), float(FIXED), dtype=torch.float64).expand(tuple(shape)))
