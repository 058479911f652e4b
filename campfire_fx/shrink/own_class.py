"""A slim model in the class of the model that it was made of, for tools that know only that class.

Every layer takes the place of the one that it was cut from. Code of the model that names sizes or places of channels is
no longer right where a shrink has rewritten it: there the smallest module around it becomes an `fx.GraphModule`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

from torch import fx, nn

from campfire_fx.analysis.plan import Verification
from campfire_fx.base.compat import buffers_of, children_of, parameters_of
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import ShrinkError
from campfire_fx.capture import trace
from campfire_fx.export.scopes import Block, Path, blocks
from campfire_fx.layers.dual import DualGraphModule
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.shrink.verify import verify

_UNKNOWN = "?"
Signature = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class InOwnClass:
    """A slim model in the class of the one it was made of.

    Attributes:
        model: of that class, with the slim model's layers.
        rewritten: paths of the modules whose code had to change; each is a graph now.
        verification: how far its outputs are from those of the slim model.
    """

    model: nn.Module
    rewritten: tuple[str, ...]
    verification: Verification


def in_own_class(slim: SlimModel, model: nn.Module) -> InOwnClass:
    """Return a copy of a model, of its own class, with the layers of the slim model that was made of it.

    It needs nothing but the code of that class, trains as the class does, and computes what the slim model computes,
    which is proven. Neither of the two models given is touched.

    Args:
        slim: from `shrink(model)`, in this process.
        model: the very model that was given to it.

    Raises:
        ShrinkError: it was not captured as one graph, or was made of another model, or code would have to change that
            no single module holds.
    """
    graph = _one_graph(slim)
    if graph is None:
        raise ShrinkError("in_own_class: the model was not captured as one graph. Use the slim model as it is.")
    if slim._origin() is not model:
        raise ShrinkError("in_own_class: the slim model was not made of this model. Give what was given to shrink.")
    args, kwargs = slim.example
    whole = _one_graph(trace(model, kwargs or args, compiled=False).module)
    assert whole is not None
    own = private_copy(model)
    root = _blocks(model, graph)
    rewritten = _rewritten(_blocks(model, whole), root)
    _put_layers(slim, own, {str(node.target) for node in graph.find_nodes(op="call_module")})
    for path in sorted(rewritten, key=len, reverse=True):  # what lies deepest first: others call it
        _put_graph(own, slim, next(block for block in _all(root) if block.path == path))
    own.train(model.training)
    paths = tuple(sorted(".".join(path) for path in rewritten))
    return InOwnClass(own, paths, verify(slim, own, args, kwargs, doing="Putting layers back"))


def _one_graph(module: nn.Module) -> fx.Graph | None:
    """Return the evaluation graph of a model that was captured as one, by one way through its code."""
    one = isinstance(module, DualGraphModule) and len(module.graph_variants) == 1
    return cast(DualGraphModule, module).graph if one else None


def _blocks(module: nn.Module, graph: fx.Graph) -> Block:
    """Return a graph as nested blocks; a layer that stands in several modules is called by its name in the caller."""
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    for node in copied.find_nodes(op="call_module"):
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        home, target = stack[-2] if len(stack) > 1 else "", str(node.target)
        if target.rpartition(".")[0] != home:
            layer = module.get_submodule(target)
            names = [name for name, child in children_of(module.get_submodule(home)).items() if child is layer]
            node.target = f"{home}.{names[0]}" if names and home else (names or [target])[0]
    return blocks(copied)


def _rewritten(before: Block, after: Block) -> set[Path]:
    """Return the modules whose own code is another now, as far down as they are called with one value for one."""
    old, new = ({b.path: _signature(b) for b in _all(root)} for root in (before, after))
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    found: set[Path] = set()
    known = {block.path: block for block in _all(after)}
    for path in changed:
        while path and not (path in known and len(known[path].inputs) == len(known[path].outputs) == 1):
            path = path[:-1]
        if not path:
            raise ShrinkError(
                "in_own_class: the model's own forward would have to change, or one that takes several values. Use the"
                " slim model as it is."
            )
        found.add(path)
    return found


def _all(block: Block) -> list[Block]:
    inner = [found for item in block.items if isinstance(item, Block) for found in _all(item)]
    return [block, *inner]


def _signature(block: Block) -> Signature:
    """Return what a block computes by itself, whatever its nodes are called: its items, and what they read."""
    places: dict[fx.Node, Any] = {node: ("in", number) for number, node in enumerate(block.inputs)}
    items: list[Any] = []
    for item in block.items:
        if isinstance(item, Block):
            items.append((item.path, [places.get(node, _UNKNOWN) for node in item.inputs]))
            places |= {node: (len(items), number) for number, node in enumerate(item.outputs)}
            continue
        target = item.target if item.op == "call_function" else str(item.target)
        read = fx.map_arg((item.args, item.kwargs), lambda node: f"%{places.get(node, _UNKNOWN)}")  # noqa: B023
        items.append((item.op, target, repr(read)))
        places[item] = (len(items), 0)
    return (tuple(map(repr, items)), tuple(places.get(node, _UNKNOWN) for node in block.outputs))


def _put_layers(slim: nn.Module, own: nn.Module, called: set[str]) -> None:
    """Put the layers and tensors of the slim model in the places that they were cut from, under all their names."""
    copied: dict[str, nn.Module] = copy.deepcopy(dict(slim.named_modules(remove_duplicate=False)))
    layers = {id(own.get_submodule(path)): copied[path] for path in called if _has(own, path)}
    for module in list(own.modules()):
        for name, child in children_of(module).items():
            children_of(module)[name] = layers.get(id(child), child)
    for path, module in copied.items():
        if path not in called and _has(own, path):
            target = own.get_submodule(path)
            parameters, buffers = parameters_of(target), buffers_of(target)
            parameters.update({k: v for k, v in parameters_of(module).items() if k in parameters})
            buffers.update({k: v for k, v in buffers_of(module).items() if k in buffers})


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _put_graph(own: nn.Module, slim: nn.Module, block: Block) -> None:
    """Put a graph in the place of a module whose code is another now; its attributes that are no modules stay."""
    graph, held = fx.Graph(), dict[str, Any]()
    values: dict[fx.Node, fx.Node] = {block.inputs[0]: graph.placeholder("x")}

    def add(inner: Block) -> None:
        for item in inner.items:
            if isinstance(item, Block) and len(item.inputs) == len(item.outputs) == 1:
                name = _below(item.path, block.path)
                held[name] = own.get_submodule(".".join(item.path))
                values[item.outputs[0]] = graph.call_module(name, (values[item.inputs[0]],))
            elif isinstance(item, Block):
                add(item)
            else:
                values[item] = new = graph.node_copy(item, values.__getitem__)
                if item.op in ("call_module", "get_attr"):
                    new.target = _below(tuple(str(item.target).split(".")), block.path)
                    held[new.target] = _held(own, slim, item)

    add(block)
    graph.output(values[block.outputs[0]])
    path = ".".join(block.path)
    old = own.get_submodule(path)
    # In a container, which keeps the attributes when it is copied: a GraphModule does not.
    holder = nn.Sequential(fx.GraphModule(held, graph, type(old).__name__))
    known = vars(nn.Module()).keys()
    vars(holder).update({name: value for name, value in vars(old).items() if name not in known})
    own.set_submodule(path, holder)


def _held(own: nn.Module, slim: nn.Module, node: fx.Node) -> Any:
    target = str(node.target)
    if node.op == "call_module":
        return own.get_submodule(target)
    path, _, name = target.rpartition(".")
    return copy.deepcopy(getattr(slim.get_submodule(path), name))


def _below(path: Path, above: Path) -> str:
    """Return a name in a module for what lies in it, or elsewhere in the model."""
    inside = path[: len(above)] == above
    return ".".join(path[len(above) :]) if inside else "_".join(path)
