"""DualGraphModule: one module, two graphs, the one that `self.training` asks for runs; or several such pairs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx, nn
from torch.fx.graph import PythonCode

from campfire_fx.base.frozen_graphs import Frozen, freeze, thaw
from campfire_fx.base.naming import any_name
from campfire_fx.layers.belongings import OriginalClass, without_objects
from campfire_fx.layers.dispatch import CompiledWay, Forward, Told, by_guards, by_mode, conditions_of
from campfire_fx.layers.dressing import plain_name
from campfire_fx.layers.structure import share_structure

_GRAPHS = frozenset({"_graph", "_train_graph", "_others"})


@dataclass(slots=True, eq=False)
class Modes:
    """The graphs of one variant; `train_graph` is None where both modes run the same graph."""

    graph: fx.Graph
    train_graph: fx.Graph | None = None


class DualGraphModule(fx.GraphModule):
    """Run `graph` in evaluation and `train_graph` in training, over one set of modules.

    `train_graph` is None where both modes run the same graph. Where the model's code takes other ways for other inputs,
    `others` are the graphs for these: a call runs those of the first variant whose guards hold. Parameters, buffers and
    leaf modules are the ones of `root`, under the names they have there; those that no graph reads are kept, so that a
    `state_dict` of the original loads. `constants` are tensors that only the graphs know: they become buffers outside
    the `state_dict`. Attributes of `root` that are plain data, and methods of its class, are there too; a file keeps
    data alone. `stands_in`: code around this module goes on using attributes and methods of `root`, so keep all of
    them. `told`: for each variant, which examples it was made for, and what it asks for; for who is refused.
    Without `compiled` it runs only after a call of `recompile()`: for who edits the graphs first.
    """

    _ways: ClassVar[Sequence[CompiledWay]] = ()
    """Of each variant, the compiled graph for evaluation; fx gives every graph module a class of its own."""

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        train_graph: fx.Graph | None = None,
        *,
        others: Sequence[Modes] = (),
        told: Told = (),
        constants: dict[str, torch.Tensor] | None = None,
        stands_in: bool = False,
        compiled: bool = True,
    ) -> None:
        # An empty graph first: fx would copy the attributes one by one and lose those that no node names.
        super().__init__({}, _empty_graph(), plain_name(root))
        self._others = list(others)
        self._told = told
        graphs = _graphs((Modes(graph, train_graph), *others))
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

    @property
    def graph_variants(self) -> tuple[Modes, ...]:
        """The pairs of graphs, first that of `graph` and `train_graph`."""
        return (Modes(self._graph, self.__dict__.get("_train_graph")), *self.__dict__.get("_others", ()))

    def train_alike(self, number: int) -> None:
        """Let a variant run its evaluation graph in training, too."""
        if number:
            self._others[number - 1].train_graph = None
        else:
            self._train_graph = None
        self.recompile()

    @property
    def told(self) -> Told:
        """For each of several variants, which examples it was made for, and what it asks for."""
        found: Told = self.__dict__.get("_told", ())
        return found

    def candidates(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int, bool]]:
        """Yield the numbers of the variants that inputs may run in evaluation, and whether that is not sure yet.

        Such a variant has guards on what is computed on the way.
        """
        for number, way in enumerate(self._ways):
            if way.fits(self, args, kwargs):
                yield number, way.asks_later

    def only(self, number: int) -> DualGraphModule:
        """Return a module that has one variant alone, over the same layers."""
        if len(self.graph_variants) == 1:
            return self
        modes = self.graph_variants[number]
        train_graph = None if modes.train_graph is None else thaw(freeze(modes.train_graph))
        stands_in = self._stands_in_for is not None
        return DualGraphModule(self, thaw(freeze(modes.graph)), train_graph, stands_in=stands_in)

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
        variants = self.graph_variants
        if len(variants) > 1:
            evaluate = [self._way(v.graph) for v in variants]
            pairs = zip(variants, evaluate, strict=True)
            train = [self._way(modes.train_graph) if modes.train_graph else way for modes, way in pairs]
            type(self)._ways = evaluate
            forward = by_mode(by_guards(evaluate, self.told), by_guards(train, self.told))
        elif variants[0].train_graph is not None:
            forward = by_mode(self._compiled(variants[0].graph), self._compiled(variants[0].train_graph))
        else:
            return super().recompile()
        code = super().recompile()
        type(self).forward = forward
        return code

    def _way(self, graph: fx.Graph) -> CompiledWay:
        conditions, asks_later = conditions_of(graph)
        return CompiledWay(self._compiled(graph), self._compiled(conditions), asks_later)

    def _compiled(self, graph: fx.Graph) -> Forward:
        """Return the code of a graph."""
        own = self._graph
        try:
            graph.owning_module = self
            self._graph = graph
            super().recompile()
            forward: Forward = type(self).forward
        finally:
            self._graph = own
        return forward

    def __deepcopy__(self, memo: dict[int, Any]) -> DualGraphModule:
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        result.__dict__.update(copy.deepcopy(self.__dict__, memo))
        type(result).__name__ = type(self).__name__
        result.graph = result.__dict__["_graph"]
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the graphs as plain data; `node.meta` is left behind."""
        state = {key: value for key, value in self.__dict__.items() if key not in _GRAPHS}
        state = state if self._stands_in_for is not None else without_objects(state)
        pairs = [freeze(graph) if graph else None for v in self.graph_variants for graph in (v.graph, v.train_graph)]
        return _unpickle, (type(self).__name__, state, *pairs)


def graphs_of(module: DualGraphModule) -> tuple[fx.Graph, ...]:
    """Return all graphs: of each variant that for evaluation and, where it is another, that for training."""
    return _graphs(module.graph_variants)


def _empty_graph() -> fx.Graph:
    graph = fx.Graph()
    graph.output(None)
    return graph


def _unpickle(name: str, state: dict[str, Any], *frozen: Frozen | None) -> DualGraphModule:
    """Make a module of its state and its graphs, evaluation and training in turn."""
    module = DualGraphModule.__new__(DualGraphModule)
    type(module).__name__ = name
    module.__dict__.update(state)
    graphs = [None if graph is None else thaw(graph) for graph in frozen]
    pairs = [Modes(graph, train) for graph, train in zip(graphs[::2], graphs[1::2], strict=True) if graph is not None]
    module.__dict__.update(_train_graph=pairs[0].train_graph, _others=pairs[1:])
    module.graph = pairs[0].graph
    return module


def _graphs(variants: Iterable[Modes]) -> tuple[fx.Graph, ...]:
    return tuple([graph for v in variants for graph in (v.graph, v.train_graph) if graph is not None])


def _leaves(root: nn.Module, graphs: Iterable[fx.Graph]) -> set[int]:
    """Ids of the modules that the graphs call as they are."""
    targets = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_module"}
    return {id(module) for path, module in root.named_modules(remove_duplicate=False) if path in targets}
