"""Measured times of a model's layers over widths, and what they predict of a slimmer model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from campfire_fx.base.errors import CostError
from campfire_fx.base.records import Record

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """What times depend on beside the model.

    Attributes:
        device: the processor's name.
        threads: that torch computes with.
        torch: its version.
        switches: further settings of torch, as text.
    """

    device: str
    threads: int
    torch: str
    switches: str


@dataclass(frozen=True, slots=True)
class LayerTimes(Record):
    """A layer's times in all its calls, over widths.

    Attributes:
        name: its path.
        operation: "Conv2d", "Linear", ...
        inputs: channels (features) that it reads at full width.
        outputs: channels that it writes.
        groups: of a convolution. Where there is more than one, widths of whole groups are measured, and the greater
            share of inputs and outputs counts.
        step: a convolution takes as long as with the next multiple of this many channels; 1: with those it has.
        elements: that it writes at full width, in all of its calls.
        tried_inputs: widths that were measured, rising; P of them.
        tried_outputs: the same; Q of them.
        ms: P x Q milliseconds, never falling along either.
    """

    name: str
    operation: str
    inputs: int
    outputs: int
    groups: int
    step: int
    elements: int
    tried_inputs: tuple[int, ...]
    tried_outputs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]


class _Arrays(NamedTuple):
    """The layers' numbers as arrays over L layers; grids are filled up to the largest with their last values."""

    full: Floats  # (2, L): inputs, outputs
    groups: NDArray[np.bool_]  # (L,): whether there are several
    step: Floats
    elements: Floats
    tried: tuple[Floats, Floats]  # (L, P), (L, Q)
    ms: Floats  # (L, P, Q)


@dataclass(frozen=True, slots=True)
class LatencyTable(Record):
    """Measured times of a model's layers over widths, and of the rest; `latency_table` makes it.

    The rest (norms, activations, pooling, Python) is `constant_ms`, and `element_ns` for every element that a layer
    writes, so that it shrinks with the widths.

    Attributes:
        times: of each convolution and linear layer that runs, in the order in which they first run.
        whole_ms: of the model as it is, measured.
        constant_ms: of the rest, whatever the widths.
        element_ns: of the rest, nanoseconds for each element that layers write.
        setting: what it was measured on.
        shapes: of the model's inputs; the batch is their first dimension.
        dtype: of what the first layer reads.
    """

    times: tuple[LayerTimes, ...]
    whole_ms: float
    constant_ms: float
    element_ns: float
    setting: Setting
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    _arrays: _Arrays = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_arrays", _stacked(self.times))

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of the layers; arrays of widths have their order."""
        return tuple(times.name for times in self.times)

    @property
    def dense_ms(self) -> float:
        """Predicted milliseconds at full widths."""
        return self.total_ms({})

    def layer_ms(self, path: str, inputs: int, outputs: int) -> float:
        """Return the milliseconds of a layer with so many inputs and outputs; 0 where it has none of either.

        Raises:
            CostError: there is no such layer, or it has not so many channels.
        """
        known = self._widths({path: (inputs, outputs)})
        return float(self.layers_ms(*known)[self.layers.index(path)])

    def layers_ms(self, inputs: ArrayLike, outputs: ArrayLike) -> Floats:
        """Return the milliseconds of every layer, interpolated between the widths measured.

        Args:
            inputs: (..., L) channels that each of `layers` reads.
            outputs: (..., L) channels that each writes. Below the least width measured the time is that width's; with
                no channels at all it is 0.
        """
        arrays = self._arrays
        read, written = np.asarray(inputs, dtype=np.float64), np.asarray(outputs, dtype=np.float64)
        by_group = np.maximum(written, read * arrays.full[1] / arrays.full[0])
        at_rows = _located(arrays.tried[0], padded(read, arrays.full[0], arrays.step))
        columns = padded(np.where(arrays.groups, by_group, written), arrays.full[1], arrays.step)
        found = _interpolated(arrays.ms, at_rows, _located(arrays.tried[1], columns))
        return np.where((read > 0) & (written > 0), found, 0.0)

    def totals_ms(self, inputs: ArrayLike, outputs: ArrayLike) -> Floats:
        """Return the milliseconds of whole models: (...) for (..., L) inputs and outputs of their `layers`."""
        arrays = self._arrays
        written = arrays.elements * np.asarray(outputs, dtype=np.float64) / arrays.full[1]
        layers = self.layers_ms(inputs, outputs).sum(-1)
        return np.asarray(layers + self.constant_ms + 1e-6 * self.element_ns * written.sum(-1))

    def total_ms(self, widths: Mapping[str, tuple[int, int]]) -> float:
        """Return the milliseconds of the whole model.

        Args:
            widths: layer path -> inputs and outputs; layers that are not named have their full widths.

        Raises:
            CostError: there is no such layer, or it has not so many channels.
        """
        return float(self.totals_ms(*self._widths(widths)))

    def _widths(self, widths: Mapping[str, tuple[int, int]]) -> Floats:
        """Return (2, L) inputs and outputs of all layers."""
        found = self._arrays.full.copy()
        places = {name: place for place, name in enumerate(self.layers)}
        for path, width in widths.items():
            if path not in places:
                raise CostError(f"Latency table: the model has no layer '{path}' that runs. Name one of its `layers`.")
            times = self.times[places[path]]
            if not (0 <= width[0] <= times.inputs and 0 <= width[1] <= times.outputs):
                raise CostError(
                    f"Latency table: {width[0]} inputs and {width[1]} outputs at {path}: it has {times.inputs} and "
                    f"{times.outputs}. Give no more than these."
                )
            found[:, places[path]] = width
        return found

    def facts(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        found = {name: getattr(self, name) for name in ("whole_ms", "constant_ms", "element_ns", "shapes", "dtype")}
        return {**found, "setting": asdict(self.setting), "times": [asdict(times) for times in self.times]}


def rising(ms: Floats) -> Floats:
    """Return the times of a grid, lowered where a wider layer takes less, so that none falls where a width grows.

    Other work on a machine only adds to a time, so that of two that contradict each other the lower one is right.
    """
    return np.minimum.accumulate(np.minimum.accumulate(ms[::-1, ::-1], 0), 1)[::-1, ::-1]


def _stacked(times: tuple[LayerTimes, ...]) -> _Arrays:
    rows = max(2, *(len(one.tried_inputs) for one in times))  # a cell has two ends
    columns = max(2, *(len(one.tried_outputs) for one in times))
    tried_inputs = np.stack([_filled(one.tried_inputs, rows) for one in times])
    tried_outputs = np.stack([_filled(one.tried_outputs, columns) for one in times])
    return _Arrays(
        np.array([[one.inputs for one in times], [one.outputs for one in times]], dtype=np.float64),
        np.array([one.groups > 1 for one in times]),
        np.array([one.step for one in times], dtype=np.float64),
        np.array([one.elements for one in times], dtype=np.float64),
        (tried_inputs, tried_outputs),
        np.stack([_filled(one.ms, rows, columns) for one in times]),
    )


def _filled(values: ArrayLike, *sizes: int) -> Floats:
    """Return an array of the sizes given, in which the last values are repeated."""
    known = np.asarray(values, dtype=np.float64)
    return np.pad(known, [(0, size - have) for size, have in zip(sizes, known.shape, strict=True)], mode="edge")


def padded(width: ArrayLike, full: Floats | int, step: Floats | int) -> Floats:
    """Return widths as they are computed: rounded up to whole steps, but below the first, and never above the full."""
    known = np.asarray(width, dtype=np.float64)
    return np.where(known <= step, known, np.minimum(full, np.ceil(known / step) * step))


def _located(tried: Floats, width: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return (..., L) the cell of (L, P) rising widths in which a width lies, and how far from its left end, 0 to 1."""
    layers = np.arange(len(tried))
    left = np.clip((width[..., None] >= tried).sum(-1) - 1, 0, tried.shape[1] - 2)
    start, end = tried[layers, left], tried[layers, left + 1]
    return left, np.clip((width - start) / np.maximum(end - start, 1), 0.0, 1.0)


def _interpolated(ms: Floats, row: tuple[NDArray[np.intp], Floats], column: tuple[NDArray[np.intp], Floats]) -> Floats:
    layers = np.arange(len(ms))
    (i, down), (j, right) = row, column
    upper = ms[layers, i, j] * (1 - right) + ms[layers, i, j + 1] * right
    lower = ms[layers, i + 1, j] * (1 - right) + ms[layers, i + 1, j + 1] * right
    return upper * (1 - down) + lower * down
