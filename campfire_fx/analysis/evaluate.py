"""Example values of graph nodes, computed only when asked for, on tensors without data.

Tensors live on the meta device: shapes and dtypes flow, nothing is computed, nothing of the user's is touched. Two
kinds of node need more than torch's meta kernels: questions about the device are answered from the real tensors, and
leaf modules run as shadows: same attributes, meta parameters, no hooks.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.rules.effects import writes, written
from campfire_fx.analysis.rules.factories import FACTORIES, MOVES_DEVICE, READS_DATA
from campfire_fx.analysis.rules.shapes import META, keeps_shape, known_result, shape_after
from campfire_fx.base.compat import children_of
from campfire_fx.base.draws import undrawn

_DEVICE_ANSWERS: dict[str, Callable[[torch.device], Any]] = {
    "device": lambda device: device,
    "is_cuda": lambda device: device.type == "cuda",
    "is_cpu": lambda device: device.type == "cpu",
    "is_meta": lambda device: device.type == "meta",
}
RECORDED = "example"
"""Key in the meta of a node: what it gave in a real run, tensors without data, where no code tells."""


class Evaluator:
    """Compute and remember the values of nodes, each once, ancestors first.

    Modules run in evaluation unless `training`: the shapes are the same, and fewer conditions are checked. With
    `layouts`, tensors lie in memory as they would; else only shapes and dtypes count, which is faster.
    """

    def __init__(self, root: nn.Module, *, training: bool = False, layouts: bool = False) -> None:
        self.root = root
        self.training = training
        self.layouts = layouts
        self.values: dict[fx.Node, Any] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.device = next((p.device for p in root.parameters()), torch.device("cpu"))
        self._after: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self._mutators: dict[fx.Node, list[fx.Node]] = {}
        self._modules: dict[str, nn.Module] = {}
        self._shadows: dict[nn.Module, nn.Module] = {}
        # Keyed by identity; the tensor is held so that no other takes its place.
        self._meta: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def give(self, node: fx.Node, value: Any) -> None:
        """Set the value of a placeholder."""
        tensors = [item for item in _flat(value) if isinstance(item, torch.Tensor)]
        if tensors:
            self.device = tensors[0].device
        self.values[node] = map_tensors(value, self._as_meta)

    def created(self, node: fx.Node) -> None:
        """Note a new node: what reads later what it changes must come after it."""
        if self._mutators:
            after = tuple(m for arg in node.all_input_nodes for m in self._mutators.get(arg, ()))
            if after:
                self._after[node] = after
        for target in written(node) if writes(node) else ():
            self._mutators.setdefault(target, []).append(node)

    def value(self, node: fx.Node) -> Any:
        """Return the value of `node`. Raises what operations raise: a shape that does not fit, data that is needed."""
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self.values:
                stack.pop()
                continue
            missing = [need for need in (*top.all_input_nodes, *self._after.get(top, ())) if need not in self.values]
            if missing:
                stack.extend(missing)
            else:
                self.values[top] = self._run(top)
        return self.values[node]

    def forget(self, node: fx.Node) -> None:
        """Take back that `node` was created."""
        self._after.pop(node, None)
        for mutators in self._mutators.values():
            if node in mutators:
                mutators.remove(node)

    def constant(self, node: fx.Node) -> Any:
        """Return the true value, data and all, of a node that no input, random draw or training changes.

        Raises LookupError where one does.
        """
        needed: dict[fx.Node, None] = {}
        stack = [node]
        while stack:
            top = stack.pop()
            if top.op in ("placeholder", "call_module") or top in self._mutators or self._is_trained(top):
                raise LookupError(top.name)
            needed[top] = None
            stack.extend(need for need in top.all_input_nodes if need not in needed)
        value, drew_at = undrawn(lambda: self._true_value(node, needed))
        if drew_at is not None:
            raise LookupError(node.name)
        return value

    def _true_value(self, node: fx.Node, needed: Container[fx.Node]) -> Any:
        values: dict[fx.Node, Any] = {}
        for need in [other for other in node.graph.nodes if other in needed]:
            args, kwargs = fx.map_arg((need.args, need.kwargs), values.__getitem__)
            if need.op == "get_attr":
                values[need] = map_tensors(self._attribute(need), torch.clone)
            else:
                values[need] = call(need, args, kwargs)
        return values[node]

    def _is_trained(self, node: fx.Node) -> bool:
        return node.op == "get_attr" and self._attribute(node).requires_grad

    def _run(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self._as_meta(self._attribute(node))
        args, kwargs = fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        if node.op == "output":
            return args[0]
        if node.op == "call_module":
            return self.run_module(self.module(str(node.target)), args, kwargs)
        if _is_users(node):  # it may draw real numbers
            return undrawn(lambda: self._result(node, args, kwargs))[0]
        return self._result(node, args, kwargs)

    def _result(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.target in READS_DATA and args and isinstance(args[0], torch.Tensor):
            raise RuntimeError("it takes the data of a tensor")
        known = self._device_answer(node, args) if node.op == "call_method" or node.target is getattr else None
        known = known_result(node, args, kwargs) if known is None and not self.layouts else known
        if known is not None:
            return known
        if node.target in FACTORIES:
            args, kwargs = map_devices(args), {**map_devices(kwargs), "device": META}
        elif any(isinstance(arg, torch.Tensor) for arg in args):
            args, kwargs = map_devices(args), map_devices(kwargs)
        try:
            result = call(node, args, kwargs)
        except Exception:
            if kwargs.get("training") is not True:
                raise
            # In training, some check batch statistics, which say nothing about shapes.
            result = call(node, args, {**kwargs, "training": False})
        return map_tensors(result, self._as_meta)

    def changes_of(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that change the value of `node` in place."""
        return self._mutators.get(node, [])

    def module(self, path: str) -> nn.Module:
        """Return the module at `path`."""
        if not self._modules:  # a walk along every path would take longer
            self._modules = dict(self.root.named_modules(remove_duplicate=False))
        return self._modules[path]

    def _attribute(self, node: fx.Node) -> torch.Tensor:
        name = str(node.target)
        value = self.constants[name] if name in self.constants else operator.attrgetter(name)(self.root)
        assert isinstance(value, torch.Tensor)
        return value

    def run_module(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the output of `module`, run in evaluation on inputs and parameters without data."""
        args, kwargs = map_tensors((args, kwargs), self._as_meta)
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and len(args) == 1 and not kwargs:
            if keeps_shape(module, first):
                return first
            known = None if self.layouts else shape_after(module, first.shape)
            if known is not None and first.dtype == getattr(module, "weight", first).dtype:
                return torch.empty(known, dtype=first.dtype, device=META)
        shadow = self._shadow(module)
        return shadow.forward(*args, **kwargs)

    def _shadow(self, module: nn.Module) -> nn.Module:
        """Return a stand-in for `module` whose tensors have no data."""
        if module not in self._shadows:
            shadow = object.__new__(type(module))
            shadow.__dict__.update(
                {key: self._as_meta(v) if isinstance(v, torch.Tensor) else v for key, v in module.__dict__.items()}
            )
            hooks = {k: v for k, v in module.__dict__.items() if k.endswith("_hooks") and v}
            shadow.__dict__.update({key: type(value)() for key, value in hooks.items()})
            shadow.__dict__["training"] = self.training
            for kind in ("_parameters", "_buffers"):
                tensors = module.__dict__[kind]
                shadow.__dict__[kind] = {k: v if v is None else self._as_meta(v) for k, v in tensors.items()}
            children = children_of(module).items()
            shadow.__dict__["_modules"] = {k: c if c is None else self._shadow(c) for k, c in children}
            self._shadows[module] = shadow
        return self._shadows[module]

    def _as_meta(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device == META:
            return tensor
        if id(tensor) not in self._meta:
            meta = tensor.detach().to(META)
            meta.requires_grad_(tensor.requires_grad)
            is_parameter = isinstance(tensor, nn.Parameter)
            meta = nn.Parameter(meta, tensor.requires_grad) if is_parameter else meta
            self._meta[id(tensor)] = (tensor, meta)
        return self._meta[id(tensor)][1]

    def _device_answer(self, node: fx.Node, args: Any) -> Any:
        """Return the answer to a question about the device of a tensor, or a tensor moved to another; else None."""
        if not args or not isinstance(args[0], torch.Tensor):
            return None
        if node.target is getattr and args[1] in _DEVICE_ANSWERS:
            return _DEVICE_ANSWERS[args[1]](self.device)
        if node.op == "call_method" and node.target in MOVES_DEVICE:
            return args[0]
        return None


def _is_users(node: fx.Node) -> bool:
    home = (getattr(node.target, "__module__", None) or "torch").partition(".")[0]
    return node.op == "call_function" and home not in ("torch", "_operator", "builtins", "math")


def call(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """Run the function or method that a node calls."""
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def map_tensors(value: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """Apply `function` to each tensor in nested tuples, lists and dicts; what holds none comes back as it is."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, torch.Size) or not isinstance(value, (tuple, list, dict)):
        return value
    if not any(isinstance(item, torch.Tensor) for item in _flat(value)):
        return value
    if isinstance(value, dict):
        mapped = {key: map_tensors(item, function) for key, item in value.items()}
        return mapped if type(value) is dict else like_dict(value, mapped)
    items = [map_tensors(item, function) for item in value]
    if isinstance(value, list):
        return items
    # `_make` leaves out what the constructor of a named tuple may check, such as where tensors are.
    return value._make(items) if hasattr(value, "_make") else _like_tuple(value, items)


def like_dict(value: dict[Any, Any], items: dict[Any, Any]) -> Any:
    """Return a dict of the class of `value`, which may forbid `update`, with these items under the same keys."""
    result = copy.copy(value)
    for key, item in items.items():
        result[key] = item
    return result


def _like_tuple(value: tuple[Any, ...], items: list[Any]) -> Any:
    # torch.return_types.* (max, sort, ...) take one sequence, as tuple itself does.
    return type(value)(items)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _flat(item)]
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def map_devices(value: Any) -> Any:
    """Replace every device, also one given by name, by the meta device."""
    if isinstance(value, torch.device):
        return META
    if isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda", "mps", "xpu"):
        return META
    if isinstance(value, torch.Size):
        return value
    if type(value) is dict or isinstance(value, fx.immutable_collections.immutable_dict):
        return {key: map_devices(item) for key, item in value.items()}
    if type(value) in (tuple, list) or isinstance(value, fx.immutable_collections.immutable_list):
        return type(value)(map_devices(item) for item in value)
    return value
