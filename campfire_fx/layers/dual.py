"""DualGraphModule: one module, two graphs, the one that `self.training` asks for runs."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import PythonCode

from campfire_fx.base.frozen_graphs import Frozen, freeze, thaw
from campfire_fx.base.naming import any_name
from campfire_fx.layers.belongings import OriginalClass, without_objects
from campfire_fx.layers.dressing import plain_name
from campfire_fx.layers.structure import share_structure


class DualGraphModule(fx.GraphModule):
    """Run `graph` in evaluation and `train_graph` in training, over one set of modules.

    `train_graph` is None where both modes run the same graph. Parameters, buffers and leaf modules are the ones of
    `root`, under the names they have there; those that no graph reads are kept, so that a `state_dict` of the
    original loads. `constants` are tensors that only the graphs know: they become buffers outside the `state_dict`.
    Attributes of `root` that are plain data, and methods of its class, are there too; a file keeps data alone.
    `stands_in`: code around this module goes on using attributes and methods of `root`, so keep all of them.
    Without `compiled` it runs only after a call of `recompile()`: for who edits the graphs first.
    """

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        train_graph: fx.Graph | None = None,
        *,
        constants: dict[str, torch.Tensor] | None = None,
        stands_in: bool = False,
        compiled: bool = True,
    ) -> None:
        # An empty graph first: fx would copy the attributes one by one and lose those that no node names.
        super().__init__({}, _empty_graph(), plain_name(root))
        graphs = (graph,) if train_graph is None else (graph, train_graph)
        share_structure(root, self, _leaves(root, graphs), keep_classes=stands_in)
        for name, hooks in root.__dict__.items():
            if name.startswith(("_forward_", "_backward_")) and hooks:
                self.__dict__[name] = hooks.copy()
        self._stands_in_for = type(root) if stands_in else None
        own = root.__dict__.get("_original")
        self._original = own if isinstance(own, OriginalClass) else OriginalClass(type(root))
        if stands_in:
            known = self.__dict__.keys() | {"forward"}
            self.__dict__.update({name: value for name, value in root.__dict__.items() if name not in known})
        for name, value in (constants or {}).items():
            self.register_buffer(name, value, persistent=False)
        self._train_graph = train_graph
        if compiled:
            self.graph = graph
        else:
            self._graph = graph
            for one in graphs:
                one.owning_module = self

    @property
    def train_graph(self) -> fx.Graph | None:
        """The graph that runs while `self.training`; None: the same as `graph`."""
        return self._train_graph

    @train_graph.setter
    def train_graph(self, graph: fx.Graph | None) -> None:
        self._train_graph = graph
        self.recompile()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            cls, original = self.__dict__.get("_stands_in_for"), self.__dict__.get("_original")
            if cls is None and original is not None:
                return original.attribute(self, name, layers_changed=self.__dict__.get("_layers_changed", False))
            if cls is None or name.startswith("__") or not hasattr(cls, name):
                raise
        attribute = inspect.getattr_static(cls, name)
        return attribute.__get__(self, cls) if hasattr(attribute, "__get__") else attribute

    def layers_changed(self) -> None:
        """Say that layers are no longer the model's: its methods that use them directly are no longer right."""
        self.__dict__["_layers_changed"] = True

    def recompile(self) -> PythonCode:
        """Generate the code of both graphs; call it after every edit of either."""
        with any_name():
            return self._recompile()

    def _recompile(self) -> PythonCode:
        train_graph = self.__dict__.get("_train_graph")
        if train_graph is None:
            return super().recompile()
        graph = self._graph
        try:
            train_graph.owning_module = self
            self._graph = train_graph
            super().recompile()
            train_forward = type(self).forward
        finally:
            self._graph = graph
        code = super().recompile()
        type(self).forward = _dispatch(type(self).forward, train_forward)
        return code

    def __deepcopy__(self, memo: dict[int, Any]) -> DualGraphModule:
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        result.__dict__.update(copy.deepcopy(self.__dict__, memo))
        type(result).__name__ = type(self).__name__
        result.graph = result.__dict__["_graph"]
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the graphs as plain data; `node.meta` is left behind."""
        state = {key: value for key, value in self.__dict__.items() if key not in ("_graph", "_train_graph")}
        state = state if self._stands_in_for is not None else without_objects(state)
        train_graph = None if self._train_graph is None else freeze(self._train_graph)
        return _unpickle, (type(self).__name__, state, freeze(self._graph), train_graph)


def graphs_of(module: DualGraphModule) -> tuple[fx.Graph, ...]:
    """Return the graph that runs in evaluation and, where it is another, the one for training."""
    return (module.graph,) if module.train_graph is None else (module.graph, module.train_graph)


def _dispatch(evaluate: Callable[..., Any], train: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward that picks by `self.training`, with the signature of the inference code."""

    @functools.wraps(evaluate)
    def forward(self: DualGraphModule, *args: Any, **kwargs: Any) -> Any:
        if self.training:
            return train(self, *args, **kwargs)
        return evaluate(self, *args, **kwargs)

    return forward


def _empty_graph() -> fx.Graph:
    graph = fx.Graph()
    graph.output(None)
    return graph


def _unpickle(name: str, state: dict[str, Any], graph: Frozen, train_graph: Frozen | None) -> DualGraphModule:
    module = DualGraphModule.__new__(DualGraphModule)
    type(module).__name__ = name
    module.__dict__.update(state)
    module.__dict__["_train_graph"] = None if train_graph is None else thaw(train_graph)
    module.graph = thaw(graph)
    return module


def _leaves(root: nn.Module, graphs: Iterable[fx.Graph]) -> set[int]:
    """Ids of the modules that the graphs call as they are."""
    targets = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_module"}
    return {id(module) for path, module in root.named_modules(remove_duplicate=False) if path in targets}
