"""What a graph computes from parameters alone: found in it, and computed."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.rules import Aliases, Kind, Transfer
from campfire_fx.analysis.rules.effects import writes_in_place
from campfire_fx.analysis.rules.factories import ARITHMETIC
from campfire_fx.analysis.rules.mixing import bias_of
from campfire_fx.analysis.rules.record import invoke, map_nodes
from campfire_fx.base.compat import pytree
from campfire_fx.layers.dual import DualGraphModule


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """A node of a graph that is read as a weight and made of parameters alone; equal ones have one `number`."""

    where: Computations
    node: fx.Node
    number: int
    value: Tensor

    def is_no_bias(self) -> bool:
        """Whether it is zero, and a bias of all that reads it."""
        return not bool(self.value.any()) and all(is_bias(user, self.node) for user in self.node.users)

    def leaves(self) -> list[fx.Node]:
        """Return the nodes that read the tensors that it is made of."""
        return [node for node in self.where.closure(self.node) if node.op == "get_attr"]


@dataclass(slots=True, eq=False)
class Computations:
    """What one graph computes from parameters.

    Attributes:
        leaves: per node, the paths of the tensors that it is made of, or the node that made a tensor of no other.
        kinds: nodes among these that ask for the dtype or device of an activation: it is that of the parameters.
        numeric: nodes among these that are numbers, read off the shapes of parameters.
    """

    root: DualGraphModule
    graph: fx.Graph
    training: bool
    numbering: dict[Any, int]
    leaves: dict[fx.Node, frozenset[str]] = field(default_factory=dict)
    numbers: dict[fx.Node, int] = field(default_factory=dict)
    kinds: set[fx.Node] = field(default_factory=set)
    numeric: set[fx.Node] = field(default_factory=set)
    _run: GraphRun = field(init=False)

    def __post_init__(self) -> None:
        self._run = GraphRun(0, self.root, self.graph, self.training, [])
        self._find()

    def weights(self) -> Iterator[Computed]:
        """Yield what calls take as weights, with its value; numbers read off shapes are written out on the way."""
        ends = [node for node in self.leaves if node.op != "get_attr" and not self.leaves.keys() >= node.users.keys()]
        for node in ends:
            if node in self.numeric:
                self._inline(node)
            elif any(self._reads_weight(user, node) for user in node.users):
                value = self._value(node)
                if isinstance(value, Tensor):
                    yield Computed(self, node, self._number(node), value)

    def still_read(self, replaced: Set[fx.Node]) -> set[str]:
        """Return the paths of the tensors that the graph still reads when these nodes are replaced."""
        waiting = [node for node in self.graph.nodes if node not in self.leaves]
        seen = set[fx.Node]()
        while waiting:
            fresh = {n for n in waiting.pop().all_input_nodes if n in self.leaves} - seen - replaced
            seen |= fresh
            waiting += fresh
        return {str(node.target) for node in seen if node.op == "get_attr"}

    def tidy(self) -> bool:
        """Erase what nothing reads any more; return whether there was anything."""
        count = len(self.graph.nodes)
        for node in reversed(list(self.leaves)):
            if not node.users:
                self.graph.erase_node(node)
        return len(self.graph.nodes) < count

    def _find(self) -> None:
        """Follow parameters through the graph, up to what also depends on an input or is written to."""
        written = set[str]()
        for node in self.graph.nodes:
            if node.op == "get_attr" and isinstance(self.read(node), Tensor):
                self.leaves[node] = frozenset({str(node.target)})
            elif node.op.startswith("call"):
                self._find_call(node, written)
        for node in [node for node, leaves in self.leaves.items() if leaves & written]:
            del self.leaves[node]
        self.numeric &= self.leaves.keys()

    def _find_call(self, node: fx.Node, written: set[str]) -> None:
        sources = node.all_input_nodes
        writes = writes_in_place(node, self._run.submodule(node)) and sources and sources[0] in self.leaves
        if writes and not (self._is_own(sources[0], node) and self.leaves.keys() >= set(sources)):
            written |= self.leaves[sources[0]]
        if node.target is getattr and node.args[1] in ("dtype", "device") and sources[0] not in self.leaves:
            self.leaves[node] = frozenset()
            self.kinds.add(node)
        if not sources or not self.leaves.keys() >= set(sources):
            return
        leaves = frozenset[str]().union(*(self.leaves[source] for source in sources))
        self.leaves[node] = leaves or frozenset({f"%{node.name}"})  # a new tensor, which may be written to as well
        rule = self._run.rule(node)
        asks = rule.kind is Kind.ASK and not (node.target is getattr and node.args[1] != "shape")
        of_numbers = rule.kind is Kind.INDEX or node.target in ARITHMETIC
        if asks or (of_numbers and self.numeric >= set(sources)):
            self.numeric.add(node)

    def _is_own(self, target: fx.Node, writer: fx.Node) -> bool:
        """Whether only `writer` can see that it writes to `target`: all else has read it before, and keeps no view."""
        rule, made = self._run.rule(target), writes_in_place(target, self._run.submodule(target))
        if target.op == "get_attr" or (rule.aliases is not Aliases.OWN and not made):
            return False
        return all(user is writer or self._is_over(user) for user in target.users)

    def _is_over(self, reader: fx.Node) -> bool:
        """Whether what reads a tensor has done so by now, also through the views that it makes of it."""
        if reader not in self.leaves:
            return False
        rule = self._run.rule(reader)
        if rule.aliases is Aliases.OWN and not writes_in_place(reader, self._run.submodule(reader)):
            return True
        return rule.movement and all(self._is_over(user) for user in reader.users)

    def read(self, node: fx.Node) -> Any:
        """Return what a node reads by name."""
        return operator.attrgetter(str(node.target))(self.root)

    def _reads_weight(self, user: fx.Node, node: fx.Node) -> bool:
        """Whether a call takes `node` as a weight, beside what it computes on."""
        if user in self.leaves or user.op not in ("call_function", "call_method"):
            return False
        rule = self._run.rule(user)
        if user.args and user.args[0] is node and len(user.all_input_nodes) > 1:
            return rule.kind is Kind.MATMUL
        return rule.constant in (Transfer.MIX, Transfer.AFFINE) or rule.kind is Kind.PER_CHANNEL

    def _inline(self, node: fx.Node) -> None:
        value = _plain(self._value(node))
        if value is None:
            return
        for user in list(node.users):
            if user not in self.leaves:
                user.args, user.kwargs = map_nodes((user.args, user.kwargs), lambda n: value if n is node else n)

    def closure(self, node: fx.Node) -> list[fx.Node]:
        """Return all that a node is computed from, and itself, in the order of the graph."""
        found, waiting = {node}, [node]
        while waiting:
            last = waiting.pop()
            fresh = set[fx.Node]() if last in self.kinds else set(last.all_input_nodes) - found
            found |= fresh
            waiting += fresh
        return [n for n in self.leaves if n in found]

    def _number(self, node: fx.Node) -> int:
        """Return a number that equal computations on the same tensors share."""
        if node not in self.numbers:
            key: Any
            if node.op == "get_attr":
                key = id(self.read(node))
            elif node in self.kinds:
                key = node.args[1]
            else:
                args, kwargs = map_nodes((node.args, node.kwargs), lambda n: _Numbered(self._number(n)))
                key = (node.op, node.target, repr((args, kwargs)))
            self.numbers[node] = self.numbering.setdefault(key, len(self.numbering))
        return self.numbers[node]

    def _value(self, node: fx.Node) -> Any:
        """Return what a node computes; None where that is at random, changes a tensor, or fails."""
        closure = self.closure(node)
        try:
            first, second = (self._execute(closure, seed) for seed in (0, 1))
        except Exception:  # noqa: BLE001  what fails here says so when the model runs
            return None
        return first if _same(first, second) and first is not _CHANGED else None

    def _execute(self, closure: list[fx.Node], seed: int) -> Any:
        """Run a computation on copies of what it reads; _CHANGED where it has written to them."""
        read = {node: self.read(node).detach() for node in closure if node.op == "get_attr"}
        values: dict[fx.Node, Any] = {node: tensor.clone() for node, tensor in read.items()}
        given = [(tensor, values[node]) for node, tensor in read.items()]
        modules: dict[str, nn.Module] = {}
        like = next(tensor for tensor in read.values() if tensor.is_floating_point() or tensor.is_complex())
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for node in (node for node in closure if node not in read):
                if node in self.kinds:
                    values[node] = getattr(like, str(node.args[1]))
                    continue
                module = self._run.submodule(node)
                if module is not None:
                    path = str(node.target)
                    if path not in modules:
                        modules[path] = copy.deepcopy(module).train(self.training)
                        given += zip(_tensors(module), _tensors(modules[path]), strict=True)
                    module = modules[path]
                args, kwargs = map_nodes((node.args, dict(node.kwargs)), values.__getitem__)
                values[node] = invoke(node, module, tuple(args), dict(kwargs))
        return values[closure[-1]] if all(_same(a, b) for a, b in given) else _CHANGED


class _Numbered(int):
    """A number that stands for a node among a call's arguments; it prints as nothing else does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"%{int(self)}"


_CHANGED = object()


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


def _same(first: Any, second: Any) -> bool:
    """Whether two values are equal to the last bit, NaN included."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(((first == second) | ((first != first) & (second != second))).all())  # noqa: PLR0124
    return bool(type(first) is type(second) and first == second)


def _plain(value: Any) -> Any:
    """Return whole numbers, alone or in tuples, as a graph can write them out; None for anything else."""
    leaves = pytree.tree_leaves(value)
    if not leaves or not all(type(leaf) is int for leaf in leaves):
        return None
    return tuple(value) if isinstance(value, tuple) else value


def is_bias(user: fx.Node, node: fx.Node) -> bool:
    """Whether a call of a convolution or a linear function takes `node` as its bias, and as nothing else."""
    given = (*user.args, *user.kwargs.values())
    # The bias of `addmm` comes first, and it cannot do without.
    return bias_of(user) is node and given[0] is not node and sum(argument is node for argument in given) == 1
