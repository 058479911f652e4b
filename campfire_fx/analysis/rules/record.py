"""What a rule is: the facts about one operation that every analysis reads, and the table that holds them.

A rule never edits a model. It says how labels flow through the operation (`flow`), how proven constants do
(`constant`), and whether the operation only moves channels about (`movement`), so that its arguments can be
rewritten when channels go. An operation without a row is a barrier: its channels are pinned and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.effects import is_in_place, writes
from campfire_fx.analysis.labels import Labelled, concatenated
from campfire_fx.base.compat import has_hooks

if TYPE_CHECKING:
    from campfire_fx.analysis.rules.structure import Structure


class Constant(Enum):
    """How a channel that is constant on the way in leaves an operation."""

    EXECUTE = "run the operation on the constants, with NaN for what depends on the input"
    KEEP = "a uniform channel keeps its value (averages, maxima and resizing over space)"
    ZERO = "only zero keeps its value; anything else depends on the size or the border (sums over space)"
    TAINT = "unknown: every output counts as dependent on the input"
    POINTWISE = "run the operation; an output is unknown wherever an operand is (operations that swallow NaN)"
    EITHER = "each output is one of two operands, and data may decide which: known where both agree"
    AFFINE = "run the operation; where its scale is zero the output is its shift"
    PRODUCT = "run the operation; where a factor is zero the output is zero"
    MIX = "weights mix channels: decided kernel by kernel"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Attributes:
        name: what the operation does to channels, for reports and tests.
        flow: from a call on labels to the labels (or plain values) of its output.
        constant: what becomes of constant channels.
        movement: the operation moves whole channels and may be rewritten as an index.
        makes: the operation gives constants whatever it is given.
        spare: the operation is given a size, and what it gives does not depend on this entry of it.
        keeps: for `Constant.ZERO`, whether a call changes no uniform channel after all (a pool without padding, a
            sum over stacked branches), so that it can be executed.
        random: whether a call draws random numbers even in evaluation, so that nothing it gives is constant.
    """

    name: str
    flow: Callable[[Call], Any]
    constant: Constant
    movement: bool = False
    makes: bool = False
    spare: int | None = None
    keeps: Callable[[Call], bool] | None = None
    random: Callable[[Call], bool] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A parameter or buffer that a graph reads by name, in a place where its values matter, not its labels."""

    tensor: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor."""
        return self.tensor.shape


@dataclass(frozen=True, slots=True)
class Call:
    """One call in a graph, its tensors replaced by their labels.

    Attributes:
        node: the graph node.
        target: key of the rule table: a torch.nn class, a function, or a method's name.
        module: the module called, or None.
        args, kwargs: as in the graph, with `Labelled` in the place of activations and parameters.
        structure: what the run has found so far; a rule adds to it.
        example: gives the true (fake-tensor) value of the node, for outputs that no rule can tell.
    """

    node: fx.Node
    target: Hashable
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    structure: Structure
    example: Callable[[fx.Node], Any]

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """Return one argument, given by position or by name; for modules, else the attribute of that name."""
        if position < len(self.args):
            return self.args[position]
        if self.module is not None and hasattr(self.module, name):
            return getattr(self.module, name)
        return self.kwargs.get(name, default)

    def labelled(self) -> list[Labelled]:
        """Return every labelled argument, in order, however nested."""
        return [value for value in _leaves((self.args, self.kwargs)) if isinstance(value, Labelled)]

    def held(self) -> list[Held]:
        """Return every parameter read by name, in order, however nested."""
        return [value for value in _leaves((self.args, self.kwargs)) if isinstance(value, Held)]

    def run(self, convert: Callable[[Labelled | Held], Any]) -> Any:
        """Execute the operation with every labelled or held tensor converted."""
        args, kwargs = map_nested(
            (self.args, self.kwargs), lambda v: convert(v) if isinstance(v, (Labelled, Held)) else v
        )
        return invoke(self.node, self.module, args, kwargs)

    def operand(self, position: int, name: str) -> fx.Node | None:
        """Return the node that gives one argument, or None if it is not a node."""
        given = self.node.args[position] if position < len(self.node.args) else self.node.kwargs.get(name)
        return given if isinstance(given, fx.Node) else None

    def where(self) -> str:
        """Name the place of the call for people: the module's path, or the node and its operation."""
        return str(self.node.target) if self.module is not None else self.node.name


# fx types these for arguments of nodes; analyses put anything in their place.
map_nested: Callable[[Any, Callable[[Any], Any]], Any] = fx.node.map_aggregate
map_nodes: Callable[[Any, Callable[[fx.Node], Any]], Any] = fx.node.map_arg


def _leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    map_nested(value, found.append)
    return found


def invoke(node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute what a node calls on the arguments given."""
    args, kwargs = _mutable(args), _mutable(kwargs)
    if module is not None:
        return module(*args, **kwargs)
    if node.op == "call_method":
        # Analyses run on stretched tensors, which only reshape can flatten; dtype views have nothing to flatten.
        name = "reshape" if node.target == "view" and not isinstance(args[-1], torch.dtype) else str(node.target)
        return getattr(args[0], name)(*args[1:], **kwargs)
    assert callable(node.target)
    if node.target in _CONCATENATIONS and args and kwargs.keys() <= {"dim"}:
        return concatenated(*args, **kwargs)
    return node.target(*args, **kwargs)


_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)


def writes_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a call changes what it is given."""
    return writes(node) if module is None else is_in_place(module)


def _mutable(value: Any) -> Any:
    """Turn the immutable lists and dicts of a graph into plain ones, as generated code would pass them."""
    if isinstance(value, list):
        return [_mutable(item) for item in value]
    if type(value) in (dict, fx.immutable_collections.immutable_dict):  # the user's own classes stay
        return {key: _mutable(item) for key, item in value.items()}
    if type(value) is tuple:
        return tuple(_mutable(item) for item in value)
    return value


def meta(value: Labelled | Held) -> Tensor:
    """Return a meta tensor of the same shape: for shapes without work."""
    return torch.empty(value.shape, device="meta")


_TABLE: dict[Hashable, Rule] = {}


def register(rule: Rule, *targets: Hashable) -> None:
    """Enter a rule for torch.nn classes, functions, and methods or qualified functions by name.

    Raises:
        ValueError: a target has a row already.
    """
    for target in dict.fromkeys(targets):  # torch and torch.nn.functional share some functions
        if target in _TABLE:
            raise ValueError(f"{target} has a rule already: {_TABLE[target].name}.")
        _TABLE[target] = rule


def lookup(target: Hashable) -> Rule | None:
    """Return the rule of a target; functions are also found by "package.module:name"."""
    rule = _TABLE.get(target)
    if rule is None and callable(target):
        rule = _TABLE.get(f"{getattr(target, '__module__', '')}:{getattr(target, '__name__', '')}")
    return rule


def table() -> dict[Hashable, Rule]:
    """Return a copy of the whole table."""
    return dict(_TABLE)


def known_class(module: nn.Module) -> type[nn.Module] | None:
    """Return the torch.nn class whose computation a module performs, or None if it is its own.

    A subclass counts as its torch.nn base only if it inherits every method that the base defines, and no hook
    or computed parameter can change what the call returns.
    """
    if has_hooks(module) or hasattr(module, "parametrizations"):
        return None
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules"):
            return cls if _inherits_computation(type(module), cls) else None
    return None


_COMPUTATION = ("forward", "__call__", "_conv_forward", "_check_input_dim", "_output_padding", "__getattr__")


def _inherits_computation(cls: type, base: type) -> bool:
    return all(getattr(cls, name, None) is getattr(base, name, None) for name in _COMPUTATION)
