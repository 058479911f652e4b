"""What each module of a model costs: the shape of its output, its parameters, its multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from campfire_fx.base.compat import pytree
from campfire_fx.base.records import Record
from campfire_fx.cost.measure import MacCount, macs_noting, parameters

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModuleCost(Record):
    """One module, with all inside it that has no entry of its own.

    Attributes:
        name: its path; "" for a model that is one layer.
        operation: its class.
        output: shapes of the tensors that it returned when it was first called.
        weight: shape of its weight; () where it has none.
        parameters: how many it has; those that several modules share count for the first.
        macs: multiply-accumulates of all of its calls.
        keeps_shape: whether what it returned has the shape of what it was given.
    """

    name: str
    operation: str
    output: tuple[Shape, ...]
    weight: Shape
    parameters: int
    macs: int
    keeps_shape: bool = False


@dataclass(frozen=True, slots=True)
class ModuleCosts(Record):
    """What one call of a model costs, module by module.

    Attributes:
        modules: in the order in which they first ran.
        parameters: of the whole model.
        cost: of the whole model.
        idle: paths of modules that did not run, with all inside them.
    """

    modules: tuple[ModuleCost, ...]
    parameters: int
    cost: MacCount
    idle: tuple[str, ...] = ()

    @property
    def rest(self) -> tuple[int, int]:
        """(parameters, MACs) in none of the modules: of modules that did not run, and of the code between them."""
        parameters, macs = sum(one.parameters for one in self.modules), sum(one.macs for one in self.modules)
        return self.parameters - parameters, self.cost.total - macs


def module_costs(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, *, depth: int | None = None
) -> ModuleCosts:
    """Run a model once, on fake tensors where it can be, and note what its modules do.

    Args:
        model: any model.
        args: positional inputs; counts are of all samples in them.
        kwargs: inputs by name.
        depth: how many names a path may have: what lies deeper is added to the module around it. None: the modules
            that call no other.
    """
    shapes: dict[str, tuple[tuple[Shape, ...], tuple[Shape, ...]]] = {}
    modules = dict(model.named_modules())
    hooks = [(one, _note(shapes, path)) for path, one in modules.items()]
    cost = macs_noting(model, args, kwargs, hooks, shapes)
    names = _entries(shapes, depth)
    counts = _summed(names, ((name, one.numel()) for name, one in model.named_parameters()))
    products = _summed(names, cost.per_layer.items() if cost.per_layer else [("", cost.total)])
    found = []
    for name in names:
        given, output = shapes.get(name, ((), ()))
        module, same = modules[name], bool(output) and given[:1] == output
        operation = type(module).__name__.removeprefix("Masked")
        found.append(ModuleCost(name, operation, output, _weight(module), counts[name], products[name], same))
    return ModuleCosts(tuple(found), parameters(model), cost, _idle(modules, [*shapes, *names]))


def _note(shapes: dict[str, Any], name: str) -> Callable[..., None]:
    def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        shapes.setdefault(name, (_shapes((args, kwargs)), _shapes(output)))

    return hook


def _shapes(value: Any) -> tuple[Shape, ...]:
    return tuple(tuple(leaf.shape) for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def _weight(module: nn.Module) -> Shape:
    weight = getattr(module, "weight", None)
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _entries(ran: Iterable[str], depth: int | None) -> list[str]:
    """Return the paths that get an entry: of what ran the innermost modules, cut to a depth."""
    ran = list(ran)
    outer = {path[:end] for path in ran for end, character in enumerate(path) if character == "."}
    outer |= {""} if len(ran) > 1 else set()
    inner = [path for path in ran if path not in outer]
    return list(dict.fromkeys(".".join(path.split(".")[:depth]) for path in inner))


def _idle(modules: dict[str, nn.Module], ran: Sequence[str]) -> tuple[str, ...]:
    """Return the outermost modules with parameters of which no part ran, and that lie in no entry."""
    busy = {path[:end] for path in ran for end in range(len(path) + 1) if path[end : end + 1] in ("", ".")}
    found: list[str] = []
    for path, module in modules.items():
        around = (*found, *ran)
        if path not in busy and not any(path.startswith(f"{one}.") for one in around if one) and parameters(module):
            found.append(path)
    return tuple(found)


def _summed(names: Sequence[str], numbers: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up numbers by path for the entries that they lie in; what lies in none is left out."""
    sums = dict.fromkeys(names, 0)
    for path, number in numbers:
        parts = path.split(".")
        around = (".".join(parts[:size]) for size in range(len(parts), -1, -1))
        name = next((one for one in around if one in sums), None)
        if name is not None:
            sums[name] += number
    return sums
