"""A convolution or linear function on a module's own weight, made the layer that torch has for it.

Model zoos subclass nn.Conv2d to pad like another framework, and call `F.conv2d(x, self.weight, ...)` themselves. The
weight is an ordinary one, so a layer of torch's, under the same name and with the same tensors, can hold its mask.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.edits.convolutions import first_input
from campfire_fx.analysis.rules.layers import MIXING
from campfire_fx.base.compat import children_of, parameters_of, pytree
from campfire_fx.layers.dual import DualGraphModule, graphs_of


@dataclass(frozen=True, slots=True, eq=False)
class _FunctionCall:
    """A call of a function that torch has a layer for, on the weight and bias of the module at `path`."""

    node: fx.Node
    path: str
    weight: fx.Node
    bias: fx.Node | None
    settings: dict[str, Any]

    @property
    def form(self) -> tuple[Any, ...]:
        """What the calls of one layer must have in common."""
        return self.node.target, self.bias is None, sorted(self.settings.items())


def layers_made(captured: Captured, only: Collection[str] | None = None) -> tuple[str, ...]:
    """Make layers in place, and return their paths.

    Only where the whole model is one graph: code around an island may call the module that would be replaced.

    Args:
        captured: the model.
        only: paths of the modules that may become layers; None: all.
    """
    root = captured.module
    if not isinstance(root, DualGraphModule) or [island.path for island in captured.islands] != [""]:
        return ()
    calls: dict[nn.Module, list[_FunctionCall]] = {}
    for graph in graphs_of(root):
        for call in (call for call in _calls(graph) if only is None or call.path in only):
            calls.setdefault(root.get_submodule(call.path), []).append(call)
    made = {module: found for module, found in calls.items() if _is_one_layer(root, module, found)}
    for module, found in made.items():
        _move_children(root, module, found[0].path)
        _put(root, module, _layer(module, found[0]))
        for call in found:
            _call_module(call)
    return tuple(found[0].path for found in made.values())


def _calls(graph: fx.Graph) -> Iterator[_FunctionCall]:
    for node in graph.nodes:
        if node.op != "call_function" or node.target not in MIXING:
            continue
        names = ("input", "weight", "bias", *MIXING[node.target].settings)
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        source, weight, bias = (given.pop(name, None) for name in names[:3])
        path = _holder(weight, "weight")
        settings_known = not any(isinstance(value, fx.Node) for value in pytree.tree_leaves(given))
        if path and isinstance(source, fx.Node) and settings_known and (bias is None or _holder(bias, "bias") == path):
            settings = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
            yield _FunctionCall(node, path, weight, bias, settings)


def _holder(node: Any, name: str) -> str:
    """Return the path of the module whose tensor `name` a node reads, or "" if it reads anything else."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return ""
    path, _, last = str(node.target).rpartition(".")
    return path if last == name else ""


def _is_one_layer(root: DualGraphModule, module: nn.Module, calls: list[_FunctionCall]) -> bool:
    """Return whether the module holds a weight and a bias alone, and these calls, all the same, are all their uses."""
    owned = dict(module.named_parameters()) | dict(module.named_buffers())
    wanted = {"weight"} if calls[0].bias is None else {"weight", "bias"}
    if owned.keys() != wanted or any(call.form != calls[0].form for call in calls):
        return False
    tensors = {id(tensor) for tensor in owned.values()}
    known = {call.node for call in calls}
    for graph in graphs_of(root):
        for node in graph.nodes:
            if node.op == "call_module" and root.get_submodule(node.target) is module:
                return False
            if (
                node.op == "get_attr"
                and id(operator.attrgetter(str(node.target))(root)) in tensors
                and not known.issuperset(node.users)
            ):
                return False
    return isinstance(owned["weight"], nn.Parameter)


def _layer(module: nn.Module, call: _FunctionCall) -> nn.Module:
    """Return torch's layer with the tensors of the module, as the call configures it."""
    form = MIXING[call.node.target]
    settings = form.settings
    weight: Any = module.weight
    groups = call.settings.get("groups", 1)
    outputs, inputs = weight.shape[:2]
    if "output_padding" in settings:
        sizes = {"in_channels": outputs, "out_channels": inputs * groups}
    elif settings:
        sizes = {"in_channels": inputs * groups, "out_channels": outputs}
    else:
        sizes = {"in_features": inputs, "out_features": outputs}
    kernel = {"kernel_size": tuple(weight.shape[2:])} if settings else {}
    layer: nn.Module = form.layer(**sizes, **kernel, **call.settings, bias=call.bias is not None, device="meta")
    layer.training = module.training
    parameters_of(layer).update(parameters_of(module))
    return layer


def _move_children(root: DualGraphModule, module: nn.Module, path: str) -> None:
    """Let what the module holds besides (a padding, without tensors) stand beside it: a layer has no children."""
    parent, _, own = path.rpartition(".")
    home = root.get_submodule(parent)
    for name, child in list(module.named_children()):
        free = f"{own}_{name}"
        while hasattr(home, free):
            free += "_"
        home.add_module(free, child)
        paths = [p for p, found in root.named_modules(remove_duplicate=False) if found is module]
        old = tuple(f"{p}.{name}" for p in paths)
        new = f"{parent}.{free}" if parent else free
        for node in (node for graph in graphs_of(root) for node in graph.nodes if node.op == "call_module"):
            start = next((o for o in old if f"{node.target}.".startswith(f"{o}.")), None)
            if start is not None:
                node.target = new + node.target[len(start) :]


def _put(root: nn.Module, module: nn.Module, layer: nn.Module) -> None:
    """Let the layer stand wherever the module does."""
    for parent in list(root.modules()):
        for name, child in children_of(parent).items():
            if child is module:
                children_of(parent)[name] = layer


def _call_module(call: _FunctionCall) -> None:
    graph = call.node.graph
    with graph.inserting_before(call.node):
        new = graph.call_module(call.path, (first_input(call.node),))  # an earlier call may have been replaced
    new.meta = dict(call.node.meta)
    call.node.replace_all_uses_with(new)
    graph.erase_node(call.node)
    for read in (call.weight, call.bias):
        if read is not None and not read.users:
            graph.erase_node(read)
