"""DualGraphModule: one module, two graphs, the one that `self.training` asks for runs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import PythonCode

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class DualGraphModule(fx.GraphModule):
    """Run `graph` in evaluation and `train_graph` in training, over one set of modules.

    `train_graph` is None where both modes run the same graph. Parameters, buffers and leaf modules are the ones of
    `root`, under the names they have there; those that no graph reads are kept, so that a `state_dict` of the
    original loads. `constants` are tensors that only the graphs know: they become buffers outside the `state_dict`.
    """

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        train_graph: fx.Graph | None = None,
        *,
        constants: dict[str, torch.Tensor] | None = None,
        class_name: str | None = None,
    ) -> None:
        # An empty graph first: fx would copy the attributes one by one and lose those that no node names.
        super().__init__({}, _empty_graph(), class_name or type(root).__name__)
        graphs = (graph,) if train_graph is None else (graph, train_graph)
        _share_structure(root, self, _leaves(root, graphs))
        for name, value in (constants or {}).items():
            self.register_buffer(name, value, persistent=False)
        self._train_graph = train_graph
        self.graph = graph

    @property
    def train_graph(self) -> fx.Graph | None:
        """The graph that runs while `self.training`; None: the same as `graph`."""
        return self._train_graph

    @train_graph.setter
    def train_graph(self, graph: fx.Graph | None) -> None:
        self._train_graph = graph
        self.recompile()

    def recompile(self) -> PythonCode:
        """Generate the code of both graphs; call it after every edit of either."""
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
        type(self).forward = _dispatch(type(self).forward, train_forward)  # type: ignore[method-assign]
        return code

    def __deepcopy__(self, memo: dict[int, Any]) -> DualGraphModule:
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        result.__dict__.update(copy.deepcopy(self.__dict__, memo))
        type(result).__name__ = type(self).__name__
        result.graph = result.__dict__["_graph"]
        return result


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


def _leaves(root: nn.Module, graphs: Iterable[fx.Graph]) -> set[int]:
    """Ids of the modules that the graphs call as they are."""
    targets = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_module"}
    return {id(root.get_submodule(target)) for target in targets}


def _share_structure(source: nn.Module, target: nn.Module, leaves: set[int]) -> None:
    """Give `target` the tensors and children of `source`: same leaf objects, new containers around them."""
    pending = [(source, target)]
    made: dict[int, nn.Module] = {}
    while pending:
        old, new = pending.pop()
        new.training = old.training
        new._parameters.update(old._parameters)
        new._buffers.update(old._buffers)
        new._non_persistent_buffers_set.update(old._non_persistent_buffers_set)
        new.__dict__.update({name: value for name, value in old.__dict__.items() if isinstance(value, torch.Tensor)})
        for name, child in old._modules.items():
            if child is None:
                new._modules[name] = None
                continue
            if id(child) not in made:
                is_container = child._modules and id(child) not in leaves
                made[id(child)] = _container_like(child) if is_container else child
                if is_container:
                    pending.append((child, made[id(child)]))
            new._modules[name] = made[id(child)]


def _container_like(module: nn.Module) -> nn.Module:
    """Return an empty module; torch's own containers keep their class, so that indexing works."""
    return type(module)() if type(module) in _CONTAINERS else nn.Module()
