"""A latency table as channel pruning asks it: the time of each of a model's weights, whatever order they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from campfire_fx.cost.latency_record import Floats, LatencyTable


@dataclass(frozen=True, slots=True, eq=False)
class TimesOfLayers:
    """Times of the layers at `paths`, and of what depends on the elements that they write.

    A path may be there several times, or be in no table: then its time is 0, since it counts as constant.
    """

    table: LatencyTable
    paths: tuple[str, ...]
    steps: Floats = field(init=False)
    _places: tuple[list[int], list[int]] = field(init=False)

    def __post_init__(self) -> None:
        known = {path: place for place, path in enumerate(self.table.layers)}
        first = {path: place for place, path in reversed(list(enumerate(self.paths))) if path in known}
        object.__setattr__(self, "_places", (list(first.values()), [known[path] for path in first]))
        steps = np.ones(len(self.paths))
        steps[self._places[0]] = [self.table.times[place].step for place in self._places[1]]
        object.__setattr__(self, "steps", steps)

    def for_paths(self, paths: Sequence[str]) -> TimesOfLayers:
        """Return the same table for other layers."""
        return TimesOfLayers(self.table, tuple(paths))

    def __call__(self, inputs: Floats, outputs: Floats) -> Floats:
        """Return the milliseconds of each layer with so many input channels and filters, (layers,) each."""
        mine, theirs = self._places
        full = np.array([(times.inputs, times.outputs) for times in self.table.times], dtype=np.float64).T
        full[0, theirs], full[1, theirs] = inputs[mine], outputs[mine]
        elements = np.array([times.elements / max(1, times.outputs) for times in self.table.times])
        found = np.zeros(len(self.paths))
        ms = self.table.layers_ms(full[0], full[1]) + 1e-6 * self.table.element_ns * elements * full[1]
        found[mine] = ms[theirs]
        return found
