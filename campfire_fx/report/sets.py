"""The coupled sets of a dependency graph as pictures show them: a number and a colour for each that layers share."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

_GOLDEN = 0.618034  # steps of it round the colour circle keep neighbours apart
_FIRST = 0.58  # blue: red is for what always stays
_LIGHT = (0.80, 0.88)  # of fills, in turn: black text is legible on both
_DARK = 0.42  # of lines
_LAYERS = ("conv", "linear")


@dataclass(frozen=True, slots=True)
class SharedSet:
    """Channels that several layers have in common.

    Attributes:
        number: counted from 1, in the order of the graph.
        name: of the coupled set.
        layers: how many convolutions and linear layers write them.
        fill, line: colours, as "#d5e8f0": a light one behind text, and a dark one.
    """

    number: int
    name: str
    layers: int
    fill: str
    line: str

    @property
    def told(self) -> str:
        """What a legend says of it."""
        return f"{self.number}  {self.name}: {self.layers} layers"


def shared_sets(graph: nx.DiGraph) -> dict[str, SharedSet]:
    """Return the coupled sets that more than one layer of a graph writes, by their names.

    A set with one writer is coupled with nothing, and gets no colour: a picture is read more easily without.
    """
    layers: Counter[str] = Counter()
    for _, data in graph.nodes(data=True):
        layers.update(dict.fromkeys(data.get("sets", ()), data["kind"] in _LAYERS))
    shared = [name for name, count in layers.items() if count > 1]
    found = {}
    for i, name in enumerate(shared):
        hue, light = (_FIRST + i * _GOLDEN) % 1, _LIGHT[i % len(_LIGHT)]
        found[name] = SharedSet(i + 1, name, layers[name], _colour(hue, light, 0.75), _colour(hue, _DARK, 0.85))
    return found


def set_of(data: Mapping[str, Any], shared: Mapping[str, SharedSet]) -> SharedSet | None:
    """Return the first shared set of a node, by its data; None where it has none."""
    return next((shared[name] for name in data.get("sets", ()) if name in shared), None)


def _colour(hue: float, light: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))
