"""One operation alone: a graph of just its call, on activations whose channels may all be removed.

Shapes are written in letters. N and B are batch sizes, H W T lie in space; C D E G K count channels: along each of
them every position has a label of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.captured import Captured, Island, Variant
from campfire_fx.analysis.constants import Constants, find_constants
from campfire_fx.analysis.labelling import ExampleValues, GraphRun, Labelling, run_call
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules import Held
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.structure import Structure
from campfire_fx.layers.dual import DualGraphModule

_SIZES = {"N": 2, "B": 1, "C": 4, "D": 6, "E": 4, "G": 2, "K": 3}
_CHANNELS = "CDEGK"
SMALL, LARGE = 6, 9


def shape_of(letters: str, size: int = SMALL) -> tuple[int, ...]:
    """Return the shape that letters stand for; digits stand for themselves."""
    return tuple(int(c) if c.isdigit() else _SIZES.get(c, size) for c in letters)


@dataclass(frozen=True, slots=True)
class Act:
    """An activation. `dtype` other than float64: its random values are cast (bool: whether positive; long: 0 or 1)."""

    letters: str = "NCHW"
    dtype: torch.dtype = torch.float64

    def channels(self, size: int = SMALL) -> tuple[int, ...]:
        """Return its shape with length 1 along every dimension without channels."""
        shape = shape_of(self.letters, size)
        return tuple(s if c in _CHANNELS else 1 for c, s in zip(self.letters, shape, strict=True))

    def free(self) -> int:
        """Return how many channels it has."""
        return math.prod(self.channels()) if self.tells() else 0

    def tells(self) -> bool:
        """Whether it has any dimension of channels."""
        return any(c in _CHANNELS for c in self.letters)

    def random(self, generator: torch.Generator, size: int) -> Tensor:
        """Return random values of its dtype."""
        value = torch.randn(shape_of(self.letters, size), generator=generator, dtype=torch.float64)
        if self.dtype is torch.long:  # places
            return (10 * value.abs()).long() % 2
        return value > 0 if self.dtype is torch.bool else value.to(self.dtype)


@dataclass(frozen=True, slots=True)
class Par:
    """A parameter that the graph reads by name."""

    letters: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """A buffer that the graph reads by name, with these values."""

    value: Any


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor that depends on no activation, made in the graph by a call."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A small call of one operation, and what is true of it.

    Attributes:
        args, kwargs: as in a graph, with `Act`, `Par`, `Fixed` and `Made` for tensors.
        module: makes the module called, for rows of classes.
        call: the function called, where the row is found by a function's name.
        free: how many sets of input channels can still be removed independently of one another.
        made: how many sets of output channels can be; None: as many as `free`.
        stuck: removable as labels, but the call cannot be rewritten for it.
        constants: what must be proven of the output where the whole input is constant. "all": everything; "zeros": all
            if the constants are zero, else nothing; "none": nothing; "any": nothing is demanded.
        random: it draws random numbers, so two runs differ.
        resize: the call works, and means the same, at another image size.
        runs: whether it can be run on this machine.
    """

    args: tuple[Any, ...] = (Act(),)
    kwargs: dict[str, Any] = field(default_factory=dict)
    module: Callable[[], nn.Module] | None = None
    call: Callable[..., Any] | None = None
    free: int = 4
    made: int | None = None
    stuck: bool = False
    constants: str = "all"
    random: bool = False
    resize: bool = True
    runs: bool = True

    def acts(self) -> list[Act]:
        """Return every activation among the arguments, in order."""
        found: list[Act] = []
        fx.node.map_aggregate((self.args, self.kwargs), lambda v: found.append(v) if isinstance(v, Act) else None)
        return found


@dataclass(slots=True, eq=False)
class Alone:
    """The graph of one sample, its labels, and the nodes that stand for activations and for the result."""

    sample: Sample
    module: DualGraphModule
    sources: list[fx.Node]
    node: fx.Node
    inputs: tuple[Tensor, ...]
    labelling: Labelling

    @property
    def run(self) -> GraphRun:
        return self.labelling.runs[0]

    def labels(self) -> Any:
        """Return the labels of the result."""
        return self.run.values[self.node]

    def constants(self) -> Constants:
        """Return what is proven constant."""
        return find_constants(self.labelling)

    def free(self) -> Tensor:
        """Return the removable roots among the labels of the inputs."""
        return self._removable([self.run.values[s] for s in self.sources])

    def made(self) -> Tensor:
        """Return the removable roots among the labels of the result."""
        found: list[Any] = []
        fx.node.map_aggregate(self.labels(), found.append)
        return self._removable([v for v in found if isinstance(v, Labelled)])

    def _removable(self, values: list[Labelled]) -> Tensor:
        if not values:
            return torch.zeros(0)
        roots = self.labelling.structure.forest.find(torch.cat([v.labels.flatten() for v in values])).unique()
        return roots[roots != 0]


def alone(
    target: Hashable, sample: Sample, *, size: int = SMALL, seed: int = 0, constant: list[Tensor] | None = None
) -> Alone:
    """Build the graph of one sample and run it on labels.

    Args:
        target: key of the rule table.
        sample: the call.
        size: of every dimension in space.
        seed: of parameters and inputs.
        constant: per activation with channels, the value of each channel that is constant and NaN for the others
            (of shape `Act.channels()`): the graph then makes them so, by a product and a sum before the call.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    root, graph = nn.Module(), fx.Graph()
    sources: list[fx.Node] = []
    made: list[fx.Node] = []
    given = iter(constant or [])
    for number, act in enumerate(sample.acts()):
        node = graph.placeholder(f"x{number}")
        sources.append(node)
        can = constant is not None and act.tells() and act.dtype is torch.float64
        made.append(_made_constant(root, graph, node, next(given)) if can else node)
    inputs = tuple(act.random(generator, size) for act in sample.acts())
    operands = iter(made)

    def argument(value: Any) -> Any:
        if isinstance(value, Act):
            return next(operands)
        if isinstance(value, Made):
            return graph.call_function(value.function, value.args)
        if isinstance(value, Par):
            return _held(root, graph, nn.Parameter(torch.rand(shape_of(value.letters, size)).double() + 0.5))
        return _held(root, graph, value.value) if isinstance(value, Fixed) else value

    args, kwargs = fx.node.map_aggregate((sample.args, sample.kwargs), argument)
    node = _call(root, graph, target, sample, args, kwargs)
    graph.output((node,))
    module = DualGraphModule(root.double().eval(), graph).eval()
    captured = Captured(module, (Island("", module, (Variant(((inputs, {}),)),)),), (), inputs, {})
    result = Alone(sample, module, sources, node, inputs, Labelling(captured, Structure(), []))
    _run_labels(result)
    return result


def _made_constant(root: nn.Module, graph: fx.Graph, node: fx.Node, values: Tensor) -> fx.Node:
    known = ~values.isnan()
    product = graph.call_function(torch.mul, (node, _held(root, graph, (~known).double())))
    return graph.call_function(torch.add, (product, _held(root, graph, values.nan_to_num())))


def _held(root: nn.Module, graph: fx.Graph, tensor: Tensor) -> fx.Node:
    name = f"t{len(root._parameters) + len(root._buffers)}"
    if isinstance(tensor, nn.Parameter):
        root.register_parameter(name, tensor)
    else:
        root.register_buffer(name, tensor)
    return graph.get_attr(name)


def _call(root: nn.Module, graph: fx.Graph, target: Any, sample: Sample, args: Any, kwargs: Any) -> fx.Node:
    if sample.module is not None:
        root.add_module("op", sample.module())
        _randomise(root.op)
        return graph.call_module("op", args, kwargs)
    if isinstance(target, str) and sample.call is None:
        return graph.call_method(target, args, kwargs)
    return graph.call_function(sample.call or target, args, kwargs)


def _randomise(module: nn.Module) -> None:
    """Give parameters and statistics values that can be told apart."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            tensor.uniform_(0.2, 1.0)


def _run_labels(one: Alone) -> None:
    """Give the activations fresh labels and run every rule, as the label run would."""
    structure = one.labelling.structure
    run = GraphRun(0, one.module, one.module.graph, False, list(one.inputs))
    one.labelling.runs.append(run)
    found = Found(structure)
    for act, source, value in zip(one.sample.acts(), one.sources, one.inputs, strict=True):
        fresh = found.forest.fresh(act.free() or 1).view(act.channels() if act.tells() else ())
        run.values[source] = Labelled((fresh if act.tells() else fresh * 0).expand(value.shape))
    found.enter()
    follow(one.labelling, run)


def follow(labelling: Labelling, run: GraphRun) -> None:
    """Run the rule of every call of a graph whose placeholders have labels already."""
    for node in run.graph.nodes:
        if node.op == "get_attr":
            value = getattr(run.module, str(node.target))
            run.values[node] = Held(value) if value.is_floating_point() else value
        elif node.op.startswith("call"):
            run.values[node] = run_call(run, node, labelling.structure, ExampleValues(run))
    run.settled.update(labelling.structure.settled)
