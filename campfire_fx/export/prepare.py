"""From the user's model to what can be written: a copy on the CPU, in eval mode, with plain layers.

The model given is never touched: everything here works on a deep copy of it.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.rules import Kind, lookup
from campfire_fx.base.compat import buffers_of, hooks_before, is_plain_graph, pytree
from campfire_fx.base.errors import CaptureError, ExportError
from campfire_fx.base.naming import any_name
from campfire_fx.base.torch_classes import torch_class
from campfire_fx.capture import example_for, model_of, trace, variant_of
from campfire_fx.export.agreement import ModelRun, Runs, first_line, reference_runs
from campfire_fx.export.functions import write_out_functions
from campfire_fx.export.layers import Rebuilder
from campfire_fx.export.record import ForOnnx
from campfire_fx.export.shared_layers import give_each_its_own
from campfire_fx.layers.bake_masks import bake_dense_weights
from campfire_fx.layers.dual import DualGraphModule


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A model ready to be written.

    Attributes:
        module: a copy on the CPU in eval mode; layers that are subclasses of torch.nn's are torch.nn's own.
        name: the class name of the model given.
        runs: what the model answered, before anything was replaced.
        left_out: the examples whose graph is not that of the example.
        onnx: what an .onnx file is to be like.
    """

    module: nn.Module
    name: str
    runs: Runs
    left_out: tuple[str, ...] = ()
    onnx: ForOnnx = field(default_factory=ForOnnx)


def prepare(model: nn.Module, example_inputs: Any = None) -> Prepared:
    """Copy the model, run it on the example, and put plain layers in place of masked and pruned ones.

    Raises:
        ExportError: not a model, or it does not run on the example.
    """
    try:
        model = model_of(model)
    except CaptureError as error:
        raise ExportError(f"cannot export: {error}") from None
    args, kwargs = _example(model, example_inputs)
    twin = _copied(model)
    twin, left_out = _of_example(twin, args, kwargs)
    if is_graph(twin):
        twin = _inference_graph(twin)
    runs = reference_runs(twin, args, kwargs)  # also refreshes weights that forward hooks compute
    bake_dense_weights(twin)
    return Prepared(_plain_layers(twin), type(model).__name__, runs, left_out)


def _of_example(twin: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the part of a model of several graphs that the example runs, and for which examples the others are."""
    number = variant_of(twin, (args, kwargs)) if isinstance(twin, DualGraphModule) else None
    if not isinstance(twin, DualGraphModule) or number is None:
        return twin, ()
    return twin.only(number).eval(), tuple([told for n, (told, _) in enumerate(twin.told) if n != number])


@dataclass(frozen=True, slots=True, eq=False)
class Graphs:
    """A model as graphs over torch.nn layers.

    Attributes:
        module: runs the model, with the graphs in it.
        parts: the graphs by their path in the module; only "" where the whole is one.
    """

    module: nn.Module
    parts: dict[str, fx.GraphModule]

    @property
    def is_whole(self) -> bool:
        """Whether the model is one graph."""
        return "" in self.parts


def as_graphs(prepared: Prepared) -> Graphs:
    """Return the prepared model as graphs, each of their layers built anew from its settings.

    Raises:
        ExportError: no part of the model can be captured, or has a layer that torch.nn does not provide.
    """
    module = prepared.module
    if not is_graph(module):
        module = _captured(module, prepared.runs.example)
    parts = {"": module} if is_graph(module) else _parts(module)
    rebuild = Rebuilder()
    for part in parts.values():
        write_out_functions(part.graph)
        _drop_identities(part.graph)
        _rebuild(part, rebuild)
        give_each_its_own(part)
        with any_name():
            part.recompile()
    return Graphs(module, parts)


def _parts(module: nn.Module) -> dict[str, fx.GraphModule]:
    """Put ordinary graphs over the modules they use in place of the captured parts of a model, and return them."""
    found: dict[str, fx.GraphModule] = {}
    for path, part in list(module.named_modules(remove_duplicate=False)):
        if is_graph(part) and not any(path.startswith(f"{outer}.") for outer in found):
            found[path] = _inference_graph(part)
            module.set_submodule(path, found[path])
    return found


def _example(model: nn.Module, example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the example on the CPU: the one given, the one that the model carries, or a guess."""
    carried = getattr(model, "example", None)
    if example_inputs is None and isinstance(carried, tuple) and [type(part) for part in carried] == [tuple, dict]:
        args, kwargs = carried
    else:
        args, kwargs = example_for(model, example_inputs)

    def move(leaf: Any) -> Any:
        return leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(move, tuple(args)), pytree.tree_map(move, dict(kwargs))


def _captured(module: nn.Module, example: ModelRun) -> nn.Module:
    """Capture an ordinary model: as one inference graph, else with graphs in place of the parts that can be one."""
    if isinstance(module, fx.GraphModule):
        raise ExportError(
            "no torch-only code for this model: torch.export made it, and it has no layers left. "
            "Export the model that it was made from, or this one to .onnx or .pt2."
        )
    try:
        captured = trace(module, _one_form(module, example.args, example.kwargs)).module
    except CaptureError as error:
        raise ExportError(
            f"no torch-only code for this model: {shorten(str(error), 200)} "
            "Keep its own code and save its state_dict() with torch.save, or export to .onnx or .pt2."
        ) from error
    if is_graph(captured):
        return _inference_graph(captured)
    return module if any(map(is_graph, module.modules())) else captured  # a slim model has its parts already


def _one_form(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
    """Return the inputs as positional arguments or, where some have keywords, all by their keyword."""
    if not kwargs:
        return args
    return dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)


def _copied(model: nn.Module) -> nn.Module:
    """Copy the model to the CPU and to evaluation, tensors with a history (a pruning hook's) included."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        twin = copy.deepcopy(model, memo).cpu()
    except Exception as error:
        raise ExportError(
            f"the model cannot be copied: {first_line(error)}. Remove what copy.deepcopy refuses from its attributes."
        ) from error
    for module in twin.modules():
        module.training = False  # not by eval(), which a model may have made its own, or refuse as .pt2 modules do
    return twin


def is_graph(module: nn.Module) -> TypeGuard[fx.GraphModule]:
    """Say whether the module is a graph over layers, and not one that torch.export made, which is called otherwise."""
    return isinstance(module, fx.GraphModule) and is_plain_graph(module.graph)


def _inference_graph(module: fx.GraphModule) -> fx.GraphModule:
    """Return the eval graph over the modules it uses, as an ordinary GraphModule with its devices on the CPU."""
    cpu = torch.device("cpu")
    for node in module.graph.nodes:
        node.args = pytree.tree_map(lambda leaf: cpu if isinstance(leaf, torch.device) else leaf, node.args)
        node.kwargs = pytree.tree_map(lambda leaf: cpu if isinstance(leaf, torch.device) else leaf, node.kwargs)
    with any_name():
        return fx.GraphModule(module, module.graph, type(module).__name__).eval()


def _plain_layers(module: nn.Module) -> nn.Module:
    """Put torch.nn's own layers in place of masked, parametrised and hook-pruned ones."""
    rebuild = Rebuilder()
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        kind = torch_class(layer)
        if kind is None or (type(layer) is kind and not hooks_before(layer)):
            continue
        if not path:
            return rebuild.layer(layer, "the model")
        module.set_submodule(path, rebuild.layer(layer, path))
    return module


def _drop_identities(graph: fx.Graph) -> None:
    """Take functional dropout and stochastic depth out of an inference graph, where they do nothing."""
    for node in list(graph.nodes):
        rule = lookup(node.target) if node.op == "call_function" else None
        if rule is not None and rule.kind is Kind.DROP:
            given = node.normalized_arguments(nn.Module(), normalize_to_only_use_kwargs=True)
            settings = node.kwargs if given is None else given.kwargs
            if settings.get("training", True) is False:
                node.replace_all_uses_with(node.args[0] if node.args else node.kwargs["input"])
                graph.erase_node(node)


def _rebuild(module: fx.GraphModule, rebuild: Rebuilder) -> None:
    """Build every layer that the graph calls from its settings, and register every tensor that it reads."""
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(node.target)
            module.set_submodule(node.target, rebuild.layer(layer, node.target))
    for node in module.graph.nodes:
        if node.op == "get_attr":
            _register(module, node.target, rebuild)


def _register(module: fx.GraphModule, target: str, rebuild: Rebuilder) -> None:
    """Make a tensor that the graph reads by name a parameter, or a buffer that is saved."""
    path, _, name = target.rpartition(".")
    owner = module.get_submodule(path)
    value = getattr(owner, name)
    if not isinstance(value, Tensor):
        raise ExportError(
            f"no torch-only code at {target}: the forward reads a {type(value).__name__} by name, and only tensors "
            "can be saved. Make it a tensor, or export to .onnx or .pt2."
        )
    if isinstance(value, nn.Parameter):
        setattr(owner, name, rebuild.parameter(value))
        return
    owner.__dict__.pop(name, None)
    buffers_of(owner).pop(name, None)
    owner.register_buffer(name, value.detach())
