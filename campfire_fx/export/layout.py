"""The generated model's modules: which class holds what, how it is built, and how its code reaches it.

Names are the model's own, so its `state_dict` fits. A module that only calls its children one after the other
is an `nn.Sequential`; one whose children are numbered from 0 is an `nn.ModuleList`; any other keeps them as
attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, fx, nn

from campfire_fx.base.naming import is_attribute
from campfire_fx.export.layers import construction
from campfire_fx.export.literals import literal
from campfire_fx.export.scopes import Block, Path, blocks, class_names, layer_targets, tensor_targets


class ContainerKind(Enum):
    """How a module keeps its children."""

    CHAIN = "nn.Sequential"
    LIST = "nn.ModuleList"
    NAMED = "attributes"


@dataclass(slots=True, eq=False)
class Part:
    """One module or tensor of the generated model.

    Attributes:
        path: where it is.
        text: the code that makes it, for a layer or a tensor; "" for a module of ours.
        parts: its children by name.
        block: what it computes when called; None where its parent runs its code.
        shape: how it keeps its children.
        was: the class it had when traced; "" where that is not known.
    """

    path: Path
    text: str = ""
    is_tensor: bool = False
    parts: dict[str, Part] = field(default_factory=dict)
    block: Block | None = None
    shape: ContainerKind = ContainerKind.NAMED
    was: str = ""

    def add(self, path: Path) -> Part:
        """Return the part at the path below this one, made with all above it where it is not there."""
        if not path:
            return self
        if path[0] not in self.parts:
            self.parts[path[0]] = Part((*self.path, path[0]))
        return self.parts[path[0]].add(path[1:])

    def access(self, path: Path) -> str:
        """Return how code in this module's class writes what is at `path`, given from the model down."""
        text, part = "self", self
        for name in path[len(self.path) :]:
            if part.shape is not ContainerKind.NAMED:
                text += f"[{list(part.parts).index(name)}]"
            else:
                text = f"{text}.{name}" if is_name(name) else f"getattr({text}, {literal(name)})"
            part = part.parts.get(name, _LEAF)
        return text


_LEAF = Part(())
"""Stands for whatever is inside a layer of torch.nn: its attributes are reached by name."""


def is_name(text: str) -> bool:
    """Say whether the text can stand as an attribute in code."""
    return is_attribute(text)


def is_numbered(names: Iterable[str]) -> bool:
    """Say whether the names are 0, 1, 2 and so on, in order."""
    return all(name == str(position) for position, name in enumerate(names))


def layout(module: fx.GraphModule) -> Part:
    """Return the parts of the model, from its graph and the layers that it calls.

    Raises:
        ExportError: a layer is not one of torch.nn.
    """
    root = Part((), was=type(module).__name__)
    for target in layer_targets(module.graph):
        root.add(_path(target)).text = construction(module.get_submodule(target), target).text
    for target in tensor_targets(module.graph):
        if not any(root.add(_path(target)[:size]).text for size in range(len(_path(target)))):
            part = root.add(_path(target))
            part.text, part.is_tensor = _tensor(module, target), True
    _place(root, blocks(module.graph))
    _settle(root, class_names(module.graph))
    return root


def ties(module: fx.GraphModule, root: Part) -> list[str]:
    """Return the assignments that make one of each layer or parameter that the model has under two names."""
    first: dict[int, Path] = {}
    lines: list[str] = []

    def once(value: object, path: Path) -> bool:
        whole = first.setdefault(id(value), path)
        if whole != path:
            lines.append(f"{root.access(path)} = {root.access(whole)}")
        return whole == path

    for target in layer_targets(module.graph):
        layer = module.get_submodule(target)
        if once(layer, _path(target)):
            for name, parameter in layer.named_parameters():
                once(parameter, (*_path(target), *_path(name)))
    for target in tensor_targets(module.graph):
        once(fetch(module, target), _path(target))
    return lines


def fetch(module: nn.Module, target: str) -> Tensor:
    """Return the tensor that a graph reads by this name."""
    path, _, name = target.rpartition(".")
    value = getattr(module.get_submodule(path), name)
    assert isinstance(value, Tensor), f"{target} is no tensor"
    return value


def _tensor(module: nn.Module, target: str) -> str:
    """Return the code that makes a parameter or buffer of the same shape; its values come from the file."""
    value = fetch(module, target)
    dtype = "" if value.dtype == torch.float32 else f", dtype={value.dtype}"
    shape = ", ".join(map(str, value.shape)) or "()"
    empty = f"torch.zeros({shape}{dtype})"
    if not isinstance(value, nn.Parameter):
        return f"nn.Buffer({empty})"
    return f"nn.Parameter({empty})" if value.requires_grad else f"nn.Parameter({empty}, requires_grad=False)"


def _place(root: Part, block: Block) -> None:
    """Put each block at its module. A module that only computes gets its place here."""
    root.add(block.path).block = block
    for item in block.items:
        if isinstance(item, Block):
            _place(root, item)


def _settle(part: Part, known: dict[Path, str]) -> None:
    """Decide how each module keeps its children."""
    for child in part.parts.values():
        _settle(child, known)
    part.was = part.was or known.get(part.path, "")
    if (order := _chain(part)) is not None:
        part.shape = ContainerKind.CHAIN
        part.parts = {name: part.parts[name] for name in order}
        return
    numbers = sorted(part.parts, key=lambda name: (len(name), name))
    if numbers and is_numbered(numbers) and not any(child.is_tensor for child in part.parts.values()):
        part.shape = ContainerKind.LIST
        part.parts = {name: part.parts[name] for name in numbers}


def _chain(part: Part) -> list[str] | None:
    """Return the children's names in order of their calls where calling them one by one is all the module does.

    Only numbered children: a name tells a reader what a child is for, and stays readable as an attribute.
    """
    block = part.block
    if block is None or len(block.inputs) != 1 or not all(name.isdecimal() for name in part.parts):
        return None
    value = block.inputs[0]
    names: list[str] = []
    for item in block.items:
        if isinstance(item, Block):
            path, given, outputs = item.path, item.inputs == [value], item.outputs
        elif item.op == "call_module":
            path, given, outputs = _path(str(item.target)), item.args == (value,) and not item.kwargs, [item]
        else:
            return None
        if not given or len(outputs) != 1 or path[:-1] != part.path:
            return None
        names.append(path[-1])
        value = outputs[0]
    whole = len(set(names)) == len(names) == len(part.parts)
    return names if whole and block.outputs == [value] else None


def _path(target: str) -> Path:
    return tuple(target.split("."))
