"""What one call tells about channels, noted beside a structure that stays as it is until it is entered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from campfire_fx.analysis.forest import Joins
from campfire_fx.analysis.labels import Labelled, lines
from campfire_fx.analysis.rules.structure import MixCall, Mixer, Pin, Structure, fixed
from campfire_fx.layers.layout import Layout

_MOST_LABELS = 1 << 18
Table: TypeAlias = Literal["tensors", "mixers", "biases", "sizes", "wholes", "unstacked", "settled", "joined"]


class Found:
    """What a call tells; its rule notes here what it finds, and reads here what it has noted.

    Attributes:
        structure: what was known before, for reading.
        labels: those of the call's result, or plain values.
        forest: labels that are given out and joined.
        pins: what cannot be removed, with the reason.
        notes: entries of other tables of the structure: (name of the table, key) -> entry.
    """

    __slots__ = ("forest", "labels", "notes", "pins", "structure")

    def __init__(self, structure: Structure) -> None:
        self.structure, self.forest = structure, Joins(structure.forest)
        self.labels: Any = None
        self.pins: list[Pin] = []
        self.notes: dict[tuple[Table, Any], Any] = {}

    def enter(self) -> None:
        """Enter what was found in the structure, which must be as it was then."""
        self.structure.forest.enter(self.forest)
        self.structure.pins += self.pins
        for (table, key), entry in self.notes.items():
            getattr(self.structure, table)[key] = entry

    def note(self, table: Table, key: Any, entry: Any) -> None:
        """Note an entry of one of the structure's tables."""
        self.notes[table, key] = entry

    def mixers(self) -> Iterator[Mixer]:
        """Yield all mixers, those of this call last."""
        yield from self.structure.mixers.values()
        yield from (entry for (table, _), entry in self.notes.items() if table == "mixers")

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
        known = self._known(tensor)
        if known is None:
            known = Labelled(self.forest.fresh(tensor.numel()).view(tensor.shape))
            self.note("tensors", id(tensor), (tensor, known))
        return known

    def _known(self, tensor: Tensor) -> Labelled | None:
        known = self.notes.get(("tensors", id(tensor))) or self.structure.tensors.get(id(tensor))
        return None if known is None else known[1]

    def pin_tensor(self, tensor: Tensor) -> None:
        """Say that a parameter or buffer must keep its shape, without giving each element a label."""
        known = self._known(tensor)
        if known is not None:
            self.forest.fix(known.labels)
        self.note("tensors", id(tensor), (tensor, fixed(tensor.shape)))

    def owns(self, channels: Tensor, *vectors: Tensor | None) -> None:
        """Say that parameters or buffers of shape (channels,) have one entry per channel."""
        for vector in vectors:
            if vector is None:
                continue
            small = vector.shape == channels.shape and channels.numel() <= _MOST_LABELS
            if small and self._known(vector) is None:
                self.note("tensors", id(vector), (vector, Labelled(channels)))
            else:
                self.forest.join(self.tensor(vector).labels.reshape(-1), channels)

    def counts(self, module: nn.Module | None, name: str, channels: Tensor) -> None:
        """Say that an attribute of a module is the number of these channels."""
        if module is not None and hasattr(module, name):
            self.note("sizes", (id(module), name), (module, name, channels))

    def mixes(self, weight: Tensor, operation: str, layout: Layout, channels: Tensor, call: MixCall) -> Mixer:
        """Return the record of a weight that reads `channels` in a call, with fresh output labels at its first use.

        With one input and one output channel per group (a depthwise convolution) nothing is mixed, so each output
        channel keeps the label of its input channel: they can only be removed together.
        """
        known = self.structure.mixers.get(id(weight))
        if known is None:
            groups, outputs, inputs, _ = layout.kernels(weight).shape
            name = self.structure.names.get(id(weight), "?").removesuffix(".weight")
            depthwise = groups > 1 and inputs == outputs == 1
            made = channels if depthwise else self.forest.fresh(groups * outputs)
            mixer = Mixer(name, operation, weight, layout, channels, made, (call,))
        else:
            self.forest.join(known.inputs, channels)
            mixer = replace(known, calls=(*known.calls, call))
        self.note("mixers", id(weight), mixer)
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
