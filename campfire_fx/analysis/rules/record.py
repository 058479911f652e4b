"""What a rule is: the facts about one operation that every analysis reads, and the table that holds them.

A rule never edits a model. It says what the operation is (`kind`), how labels pass it (`labels`), how proven constants
do (`constant`), which dimensions it works along (`axes`), and what it does to memory (`writes`, `aliases`).
An operation without a row is a barrier: its channels are pinned and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from campfire_fx.analysis.labels import Labelled, concatenated
from campfire_fx.analysis.rules.conventions import writes_by_name
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.kinds import ARITHMETIC, MOVEMENTS, ON_ONE, Aliases, Kind, Shape, Transfer, Writes
from campfire_fx.analysis.rules.structure import Structure
from campfire_fx.base.compat import has_hooks
from campfire_fx.base.location import place
from campfire_fx.base.torch_classes import torch_class

T = TypeVar("T")
Fact: TypeAlias = "bool | Callable[[Call], bool]"
"""What is true of every call of an operation, of none, or of those that a function tells."""


@dataclass(frozen=True, slots=True)
class OpRule:
    """One row of the rule table: the facts about one operation, or about several that are alike.

    Attributes:
        kind: what the operation does to channels.
        labels: from a call on labels to the labels (or plain values) of its output; what else it finds it notes, see
            `flow`.
        constant: what becomes of constant channels.
        aliases: which arguments the result may share memory with.
        writes: which arguments a call changes; None: as the names of torch and Python tell, see `conventions`.
        sizes: what says the shape of the result; None: as the kind tells.
        axes: the dimensions of the first argument that the operation works along, counted from the first; None where
            a call does not say. Positions along other dimensions do not meet.
        pads: whether a uniform channel may come out as other numbers than it had: zeros around the image are counted,
            or sums are as long as the image is large.
        random: whether a call draws random numbers even in evaluation, so that nothing it gives is constant.
        spare: the operation is given a size, and what it gives does not depend on this entry of it.
    """

    kind: Kind
    labels: Callable[[Call, Found], Any]
    constant: Transfer
    aliases: Aliases = Aliases.OWN
    writes: Writes | None = None
    sizes: Shape | None = None
    axes: Callable[[Call], list[int] | None] | None = None
    pads: Fact = False
    random: Fact = False
    spare: int | None = None

    def flow(self, call: Call) -> Found:
        """Return what a call tells about channels; nothing is changed."""
        found = Found(call.structure)
        found.labels = self.labels(call, found)
        return found

    @property
    def movement(self) -> bool:
        """Whether the operation moves whole channels, and may be rewritten as an index."""
        return self.kind in MOVEMENTS


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
        structure: what the run has found so far, for reading.
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
        return parts((self.args, self.kwargs), Labelled)

    def held(self) -> list[Held]:
        """Return every parameter read by name, in order, however nested."""
        return parts((self.args, self.kwargs), Held)

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

    def says(self, fact: Fact) -> bool:
        """Return whether a fact about the operation is true of this call."""
        return fact if isinstance(fact, bool) else fact(self)

    def axes(self) -> list[int] | None:
        """Return the dimensions that the operation works along; None where the call does not say."""
        rule = lookup(self.target)
        return None if rule is None or rule.axes is None else rule.axes(self)

    def where(self) -> str:
        """Name the place of the call for people."""
        return place(self.node)


# fx types these for arguments of nodes; analyses put anything in their place.
map_nested: Callable[[Any, Callable[[Any], Any]], Any] = fx.node.map_aggregate
map_nodes: Callable[[Any, Callable[[fx.Node], Any]], Any] = fx.node.map_arg


def parts(value: Any, kind: type[T]) -> list[T]:
    """Return all of one kind in a value, however nested, in order."""
    if isinstance(value, kind):
        return [value]
    found: list[Any] = []
    if isinstance(value, (tuple, list, dict, slice)):
        map_nested(value, found.append)
    return [item for item in found if isinstance(item, kind)]


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
    rule = lookup(node.target)
    if rule is not None and rule.kind is Kind.CONCATENATE and args and kwargs.keys() <= {"dim"}:
        return concatenated(*args, **kwargs)
    return node.target(*args, **kwargs)


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


_TABLE: dict[Hashable, OpRule] = {}


def register(rule: OpRule, *targets: Hashable) -> None:
    """Enter a rule for torch.nn classes, functions, and methods or qualified functions by name.

    Raises:
        ValueError: a target has a row already.
    """
    for target in dict.fromkeys(targets):  # torch and torch.nn.functional share some functions
        if target in _TABLE:
            raise ValueError(f"{target} has a rule already: {_TABLE[target].kind.value}.")
        _TABLE[target] = _told(rule, target)


def _told(rule: OpRule, target: Hashable) -> OpRule:
    """Return the rule with the facts that its kind and the name of the operation tell."""
    writes = writes_by_name(target) if rule.writes is None else rule.writes
    aliases = Aliases.SAME if writes is Writes.FIRST else rule.aliases
    return replace(rule, writes=writes, aliases=aliases, sizes=rule.sizes or _SIZES.get(rule.kind, Shape.OTHER))


_SIZES = {
    **dict.fromkeys((*ON_ONE, Kind.CAST, Kind.NORMALISE, Kind.IDENTITY), Shape.FIRST),
    **dict.fromkeys((Kind.ELEMENT_WISE, *ARITHMETIC), Shape.BROADCAST),
    Kind.CONCATENATE: Shape.JOINED,
}


def lookup(target: Any) -> OpRule | None:
    """Return the rule of a target; functions are also found by "package.module:name"."""
    rule = _TABLE.get(target)
    if rule is None and callable(target):
        rule = _TABLE.get(f"{getattr(target, '__module__', '')}:{getattr(target, '__name__', '')}")
    return rule


def table() -> dict[Hashable, OpRule]:
    """Return a copy of the whole table."""
    return dict(_TABLE)


def known_class(module: nn.Module) -> type[nn.Module] | None:
    """Return the torch.nn class whose computation a module performs, or None if it is its own.

    Hooks, and parameters that are computed, may change what the call returns: it is the module's own then.
    """
    return None if has_hooks(module) or is_parametrized(module) else torch_class(module)
