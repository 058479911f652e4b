"""The classes of the generated model, and the code that builds its modules from them.

Modules whose forwards read the same share one class, whatever their widths: the widths stand where they are
built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from campfire_fx.export.layout import ContainerKind, Part, is_name, is_numbered
from campfire_fx.export.literals import literal
from campfire_fx.export.scopes import Path
from campfire_fx.export.statements import ALL, forward, gathers
from campfire_fx.export.wrapping import wrapped

BASE = "Layers"
"""The class that keeps its keyword arguments as attributes."""

_UNTELLING = frozenset(
    {"GraphModule", "DualGraphModule", "SparseModel", "SlimModel", "Module", "Sequential", "ModuleList"}
)
_RESERVED = frozenset({BASE, "F", "OrderedDict", "Path"})
_LONGEST_PLACES = 70

_Body = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Class:
    name: str
    places: list[str] = field(default_factory=list)


class Classes:
    """Collects the classes that building a model's parts takes."""

    def __init__(self, model_name: str) -> None:
        self.model_name = title(model_name, "Model")
        self._used = {self.model_name}
        self._classes: dict[_Body, _Class] = {}

    def build(self, part: Part) -> str:
        """Return the code that builds the part, and note the classes that it takes."""
        if part.text:
            return part.text
        made = {name: self.build(child) for name, child in part.parts.items()}
        if part.shape is ContainerKind.CHAIN:
            return f"nn.Sequential({chain_arguments(made)})"
        if part.shape is ContainerKind.LIST:
            return f"{self._name(part, 'nn.ModuleList')}([{', '.join(made.values())}])"
        given = [f"{name}={text}" for name, text in made.items() if is_name(name)]
        odd = [f"{literal(name)}: {text}" for name, text in made.items() if not is_name(name)]
        if odd:
            given.append("**{" + ", ".join(odd) + "}")
        return f"{self._name(part, BASE)}({', '.join(given)})"

    def part_name(self, path: str, was: str) -> str:
        """Return a class name for a part of a model, from the class it had, else from where it is."""
        return self._unused(title(was, _from_path(tuple(path.split(".")))))

    def texts(self) -> Iterable[str]:
        """Return the code of each class, those used by others first."""
        for (base, body), each in self._classes.items():
            yield "\n".join([f"class {each.name}({base}):", f'    """{_places(each.places)}"""', "", *body])

    def _name(self, part: Part, base: str) -> str:
        """Return the class that keeps children as `base` does and computes what the part's block does."""
        if part.block is None:
            return base
        arguments = [ALL] if gathers(part.block) else argument_names(len(part.block.inputs))
        outputs = part.block.outputs
        result: Any = outputs[0] if len(outputs) == 1 else tuple(outputs)
        body = method("forward", arguments, forward(part.block, result, arguments, part.access))
        if (base, body) not in self._classes:
            self._classes[base, body] = _Class(self._unused(title(part.was, _from_path(part.path))))
        self._classes[base, body].places.append(".".join(part.path))
        return self._classes[base, body].name

    def _unused(self, name: str) -> str:
        """Return the name, with a number where it is taken, and take it."""
        count = 1
        while (numbered := name if count == 1 else f"{name}{count}") in self._used:
            count += 1
        self._used.add(numbered)
        return numbered


def method(name: str, arguments: list[str], lines: Iterable[str]) -> tuple[str, ...]:
    """Return the lines of a method, indented to stand in a class."""
    head = wrapped(f"def {name}({', '.join(['self', *arguments])}):", 4)
    return (*head, *(text for line in lines for text in wrapped(line, 8)))


def chain_arguments(made: dict[str, str]) -> str:
    """Return what an nn.Sequential is built from, so that its children get these names."""
    if is_numbered(made):
        return ", ".join(made.values())
    pairs = (f"({literal(name)}, {text})" for name, text in made.items())
    return f"OrderedDict([{', '.join(pairs)}])"


def argument_names(count: int) -> list[str]:
    """Return names for a forward's arguments."""
    return [*"xyzwvu"[:count], *(f"x{number}" for number in range(1, count - 5))]


def title(name: str, otherwise: str) -> str:
    """Return the name of a class of the model, or another where it says nothing or cannot be used."""
    bare = name.lstrip("_")
    return bare if is_name(bare) and bare not in _UNTELLING | _RESERVED else otherwise


def _from_path(path: Path) -> str:
    last = next((name for name in reversed(path) if is_name(name)), "block")
    return "".join(word.capitalize() for word in last.split("_")) or "Block"


def _places(places: list[str]) -> str:
    """Say where a class is used: as many places as fit on a line."""
    texts = [", ".join(places[:count]) for count in range(1, len(places) + 1)]
    more = [f" and {len(places) - count} more." for count in range(1, len(places))]
    sentences = [text + end for text, end in zip(texts, [*more, "."], strict=True)]
    return next((each for each in reversed(sentences) if len(each) <= _LONGEST_PLACES), sentences[0])
