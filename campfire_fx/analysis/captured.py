"""Facts that a capture leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from campfire_fx.layers.dual import DualGraphModule


@dataclass(frozen=True, slots=True)
class Specialisation:
    """A question that Python asked while tracing, and the answer the example gave.

    The captured graph is right for every input that gives the same answer.
    """

    where: str
    """Source line that asked, `file.py:123`."""
    expression: str
    """What was asked, as source text: `bool(x.shape[2] > 3)`."""
    value: object
    """The answer."""
    guard: str = field(default="", compare=False)
    """What the graph asserts of its inputs so that the answer is right, as source text; "" where nothing need be."""


@dataclass(frozen=True, slots=True)
class Island:
    """A part of a model that was captured as one graph."""

    path: str
    """Path of the submodule in the model given; "" for the whole model."""
    module: DualGraphModule
    args: tuple[Any, ...]
    """Example positional inputs of this part, detached."""
    kwargs: dict[str, Any]
    """Example keyword inputs of this part, detached."""
    specialisations: tuple[Specialisation, ...] = ()
    opaque: tuple[str, ...] = ()
    """Paths, in `module`, of the leaves whose own code could not be followed; islands may lie in them."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured model: what runs, which parts of it are graphs, and what stayed Python."""

    module: nn.Module
    """Computes what the model given computes. Where the whole was captured, `islands[0].module`."""
    islands: tuple[Island, ...]
    """Each before those that lie in its opaque leaves."""
    untraced: tuple[tuple[str, str], ...]
    """(path, reason) of each module that stays Python: opaque leaves of a graph, and what holds weights outside."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def guards(self) -> tuple[str, ...]:
        """What the graphs assert of their inputs, each with the line of code that asked."""
        facts = [fact for island in self.islands for fact in island.specialisations if fact.guard]
        return tuple(dict.fromkeys(f"{fact.guard} ({fact.where})" for fact in facts))

    @property
    def whole(self) -> bool:
        """Whether the model was captured as one graph, though there may be opaque leaves in it."""
        return self.islands[0].path == ""
