"""The text of the model file: classes, the model, and a loader, in Python that needs only torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor, fx

from campfire_fx.base.compat import pytree
from campfire_fx.export.agreement import ModelRun
from campfire_fx.export.classes import Classes, chain_arguments, method
from campfire_fx.export.layout import ContainerKind, Part, is_name, is_numbered, layout, ties
from campfire_fx.export.literals import literal
from campfire_fx.export.prepare import Graphs
from campfire_fx.export.safetensors import DTYPES
from campfire_fx.export.statements import forward
from campfire_fx.export.template import (
    LAYERS,
    LOADER,
    PARTS_HEADER,
    PARTS_SUMMARY,
    WHOLE_HEADER,
    WHOLE_SUMMARY,
)

_IMPORTS = (
    ("import hashlib", r"\bhashlib\."),
    ("import json", r"\bjson\."),
    ("import math", r"\bmath\."),
    ("import operator", r"\boperator\."),
    ("import re", r"\bre\."),
    ("from collections import OrderedDict", r"\bOrderedDict\("),
    ("from pathlib import Path", r"\bPath\("),
    ("", ""),
    ("import torch", r"\btorch\."),
    ("import torch.nn.functional as F", r"\bF\."),
    ("from torch import nn", r"\bnn\."),
)


def model_source(graphs: Graphs, name: str, example: ModelRun) -> str:
    """Return the code of the model: the same text for the same model and example shapes.

    Raises:
        ExportError: a layer or function of the model is not part of torch.
    """
    classes = Classes(name)
    models: list[str] = []
    made: list[str] = []
    for path, module in graphs.parts.items():
        title = classes.part_name(path, type(module).__name__) if path else classes.model_name
        models.append("\n".join(_model(module, title, classes)))
        made.append(f"    model.set_submodule({literal(path)}, {title}())" if path else f"    model = {title}()")
    texts = [*classes.texts(), *models, _loader(made, graphs.is_whole)]
    if any(re.search(r"\bLayers\(|\(Layers\)", text) for text in texts):
        texts.insert(0, LAYERS)
    code = "\n\n\n".join(text.strip("\n") for text in texts) + "\n"
    header = (WHOLE_HEADER if graphs.is_whole else PARTS_HEADER).format(
        title=classes.model_name,
        parameters=f"{sum(parameter.numel() for parameter in graphs.module.parameters()):,}",
        inputs=_inputs(example),
    )
    imports = [line for line, used in _IMPORTS if re.search(used, code)]
    return "\n".join([header, *imports, "", "", code])


def _loader(made: list[str], is_whole: bool) -> str:
    return LOADER.format(
        given="" if is_whole else "model, ",
        summary=WHOLE_SUMMARY if is_whole else PARTS_SUMMARY,
        make="\n".join(made),
        dtypes="\n".join(f'    "{code}": {dtype},' for dtype, code in DTYPES.items()),
    )


def _model(module: fx.GraphModule, title: str, classes: Classes) -> list[str]:
    """Return the lines of the class of a whole model, or of a part that is put into one."""
    root = layout(module)
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    block = root.block
    assert block is not None
    if root.shape is ContainerKind.CHAIN and (
        block.inputs[0].target != "input" or output.args[0] is not block.outputs[0]
    ):
        root.shape = ContainerKind.LIST if is_numbered(root.parts) else ContainerKind.NAMED
    base = "nn.Module" if root.shape is ContainerKind.NAMED else root.shape.value
    lines = [f"class {title}({base}):", *_constructor(module, root, classes)]
    if root.shape is not ContainerKind.CHAIN:
        names = [str(node.target).lstrip("*") for node in block.inputs]
        body = forward(block, output.args[0], names, root.access)
        lines += ["", *method("forward", _signature(block.inputs), body)]
    return lines


def _constructor(module: fx.GraphModule, root: Part, classes: Classes) -> tuple[str, ...]:
    """Return the lines of the model's __init__: its parts, and what it has under two names."""
    made = {name: classes.build(part) for name, part in root.parts.items()}
    if root.shape is ContainerKind.CHAIN:
        lines = [f"super().__init__({chain_arguments(made)})"]
    elif root.shape is ContainerKind.LIST:
        lines = [f"super().__init__([{', '.join(made.values())}])"]
    else:
        lines = ["super().__init__()"]
        for name, text in made.items():
            lines.append(f"self.{name} = {text}" if is_name(name) else f"setattr(self, {literal(name)}, {text})")
    return method("__init__", [], [*lines, *ties(module, root)])


def _signature(inputs: Iterable[fx.Node]) -> list[str]:
    """Return the forward's arguments with their defaults."""
    return [f"{node.target}={literal(node.args[0])}" if node.args else str(node.target) for node in inputs]


def _inputs(example: ModelRun) -> str:
    """Describe the tensors of the example: their shapes and dtypes."""
    tensors = [leaf for leaf in pytree.tree_leaves((example.args, example.kwargs)) if isinstance(leaf, Tensor)]
    return ", ".join(f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in tensors) or "none"
