"""Facts that a capture leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campfire_fx.base.records import Record

if TYPE_CHECKING:
    from torch import nn

    from campfire_fx.layers.dual import DualGraphModule


@dataclass(frozen=True, slots=True)
class Specialisation(Record):
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


Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Inputs of one call, positional and keyword."""


@dataclass(frozen=True, slots=True)
class Variant(Record):
    """One way through the code of a captured part, and the example inputs that take it, detached."""

    examples: tuple[Call, ...]
    specialisations: tuple[Specialisation, ...] = ()

    @property
    def guards(self) -> tuple[str, ...]:
        """What the graphs of this variant assert of their inputs, each with the line of code that asked."""
        facts = [fact for fact in self.specialisations if fact.guard]
        return tuple(dict.fromkeys(f"{fact.guard} ({fact.where})" for fact in facts))


@dataclass(frozen=True, slots=True)
class Island(Record):
    """A part of a model that was captured: as one graph, or as one for each way that the examples take."""

    path: str
    """Path of the submodule in the model given; "" for the whole model."""
    module: DualGraphModule
    variants: tuple[Variant, ...]
    """One for each of the variants of `module`; the first example is the first one's."""
    opaque: tuple[str, ...] = ()
    """Paths, in `module`, of the leaves whose own code could not be followed; islands may lie in them."""

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional inputs of this part in the first example."""
        return self.variants[0].examples[0][0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword inputs of this part in the first example."""
        return self.variants[0].examples[0][1]

    @property
    def specialisations(self) -> tuple[Specialisation, ...]:
        """What was taken for granted, in any variant."""
        return tuple(dict.fromkeys(fact for variant in self.variants for fact in variant.specialisations))


@dataclass(frozen=True, slots=True)
class Captured(Record):
    """A captured model: what runs, which parts of it are graphs, and what stayed Python."""

    module: nn.Module
    """Computes what the model given computes. Where the whole was captured, `islands[0].module`."""
    islands: tuple[Island, ...]
    """Each before those that lie in its opaque leaves."""
    untraced: tuple[tuple[str, str], ...]
    """(path, reason) of each module that stays Python: opaque leaves of a graph, and what holds weights outside."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    others: tuple[Call, ...] = ()
    """The further examples, where there were several."""

    def _told(self) -> Iterator[str]:
        nodes = sum(len(island.module.graph.nodes) for island in self.islands)
        yield f"{type(self.module).__name__} as one graph" if self.whole else f"{len(self.islands)} parts"
        yield f"{nodes} nodes"
        yield from [f"{len(self.variants)} variants"] * bool(self.variants)
        yield from [f"{len(self.untraced)} modules stay Python"] * bool(self.untraced)

    @property
    def guards(self) -> tuple[str, ...]:
        """What the graphs assert of their inputs, each with the line of code that asked.

        Where there are several variants, a call meets those of one of them: see `variants`.
        """
        guards = (guard for island in self.islands for variant in island.variants for guard in variant.guards)
        return tuple(dict.fromkeys(guards))

    @property
    def variants(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Where the examples take several ways: for which of them each is, and what its graphs assert."""
        several = [island for island in self.islands if len(island.variants) > 1]
        return tuple(
            [(told, v.guards) for i in several for (told, _), v in zip(i.module.told, i.variants, strict=True)]
        )

    @property
    def whole(self) -> bool:
        """Whether the model was captured as one graph, though there may be opaque leaves in it."""
        return self.islands[0].path == ""
