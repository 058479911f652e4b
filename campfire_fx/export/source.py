"""The text of the model file: classes, the model, and a loader, in Python that needs only torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from campfire_fx.export.agreement import Run
from campfire_fx.export.classes import Classes, chain_arguments, method
from campfire_fx.export.layout import Part, Shape, is_name, is_numbered, layout, ties
from campfire_fx.export.literals import literal
from campfire_fx.export.safetensors import DTYPES
from campfire_fx.export.statements import forward
from campfire_fx.export.template import HEADER, LAYERS, LOADER

_IMPORTS = (
    ("import json", r"\bjson\."),
    ("import math", r"\bmath\."),
    ("import operator", r"\boperator\."),
    ("from collections import OrderedDict", r"\bOrderedDict\("),
    ("from pathlib import Path", r"\bPath\("),
    ("", ""),
    ("import torch", r"\btorch\."),
    ("import torch.nn.functional as F", r"\bF\."),
    ("from torch import nn", r"\bnn\."),
)


def model_source(module: fx.GraphModule, name: str, example: Run) -> str:
    """Return the code of the model: the same text for the same model and example shapes.

    Raises:
        ExportError: a layer or function of the model is not part of torch.
    """
    root = layout(module)
    classes = Classes(name)
    lines = _model(module, root, classes)
    texts = [*classes.texts(), "\n".join(lines)]
    if any(re.search(r"\bLayers\(|\(Layers\)", text) for text in texts):
        texts.insert(0, LAYERS)
    dtypes = "\n".join(f'    "{code}": {dtype},' for dtype, code in DTYPES.items())
    texts.append(LOADER.format(title=classes.model_name, dtypes=dtypes))
    code = "\n\n\n".join(text.strip("\n") for text in texts) + "\n"
    header = HEADER.format(
        title=classes.model_name,
        parameters=f"{sum(parameter.numel() for parameter in module.parameters()):,}",
        inputs=_inputs(example),
    )
    imports = [line for line, used in _IMPORTS if re.search(used, code)]
    return "\n".join([header, *imports, "", "", code])


def _model(module: fx.GraphModule, root: Part, classes: Classes) -> list[str]:
    """Return the lines of the model's own class."""
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    block = root.block
    assert block is not None
    if root.shape is Shape.CHAIN and (block.inputs[0].target != "input" or output.args[0] is not block.outputs[0]):
        root.shape = Shape.LIST if is_numbered(root.parts) else Shape.NAMED
    base = "nn.Module" if root.shape is Shape.NAMED else root.shape.value
    lines = [f"class {classes.model_name}({base}):", *_constructor(module, root, classes)]
    if root.shape is not Shape.CHAIN:
        names = [str(node.target).lstrip("*") for node in block.inputs]
        lines += [
            "",
            *method("forward", _signature(block.inputs), forward(block, output.args[0], names, root.access)),
        ]
    return lines


def _constructor(module: fx.GraphModule, root: Part, classes: Classes) -> tuple[str, ...]:
    """Return the lines of the model's __init__: its parts, and what it has under two names."""
    made = {name: classes.build(part) for name, part in root.parts.items()}
    if root.shape is Shape.CHAIN:
        lines = [f"super().__init__({chain_arguments(made)})"]
    elif root.shape is Shape.LIST:
        lines = [f"super().__init__([{', '.join(made.values())}])"]
    else:
        lines = ["super().__init__()"]
        for name, text in made.items():
            lines.append(f"self.{name} = {text}" if is_name(name) else f'setattr(self, "{name}", {text})')
    return method("__init__", [], [*lines, *ties(module, root)])


def _signature(inputs: Iterable[fx.Node]) -> list[str]:
    """Return the forward's arguments with their defaults."""
    return [f"{node.target}={literal(node.args[0])}" if node.args else str(node.target) for node in inputs]


def _inputs(example: Run) -> str:
    """Describe the tensors of the example: their shapes and dtypes."""
    tensors = [leaf for leaf in pytree.tree_leaves((example.args, example.kwargs)) if isinstance(leaf, Tensor)]
    return ", ".join(f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in tensors) or "none"
