"""Where each graph node belongs in the module hierarchy, and which modules can be called as one.

Tracing keeps the program's order, so what one call of a module computed is a run of neighbouring nodes. Any
such run is a function of the values that enter it: nothing in it can depend on what comes after. So a module
becomes a class with a `forward` of its own where its nodes are one unbroken run, and is inlined into its
parent elsewhere (called twice with something between, taken apart by indexing, or crossed by a rewrite).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce

from torch import fx, nn

Path = tuple[str, ...]

_SIZES = frozenset({"shape", "ndim", "size", "dim", "numel", "stride", "dtype", "device"})


@dataclass(slots=True, eq=False)
class Block:
    """A run of nodes that one module computes.

    Attributes:
        path: the module's path; () is the model.
        items: its nodes and the blocks inside it, in program order.
        inputs: nodes outside that it reads, in order of first use: its forward's arguments.
        outputs: its nodes that are read outside, in order: what its forward returns.
        sizes: the nodes of the graph that are shapes, numbers made from them and the like, not activations.
    """

    path: Path
    items: list[fx.Node | Block]
    sizes: frozenset[fx.Node]
    inputs: list[fx.Node] = field(default_factory=list)
    outputs: list[fx.Node] = field(default_factory=list)

    def nodes(self) -> Iterator[fx.Node]:
        """Go over its nodes and those of the blocks inside, in program order."""
        for item in self.items:
            if isinstance(item, Block):
                yield from item.nodes()
            else:
                yield item


def blocks(graph: fx.Graph) -> Block:
    """Return the graph as nested blocks: the model, and in it every module that is one run of nodes."""
    body = [node for node in graph.nodes if node.op in ("call_module", "call_function", "call_method")]
    homes = _homes(graph, body)
    runs = _runs(body, homes, set(class_names(graph)))
    root = _Nesting(body, runs, _sizes(graph)).block((), 0, len(body))
    _connect(root)
    root.inputs = [node for node in graph.nodes if node.op == "placeholder"]
    return root


def class_names(graph: fx.Graph) -> dict[Path, str]:
    """Return the modules whose code the tracer ran, and the class of each."""
    return {path: kind.rpartition(".")[2] for node in graph.nodes for path, kind in _stack(node)}


def caller(node: fx.Node) -> Path | None:
    """Return the module in whose code a node stands; None where tracing noted none."""
    noted = _stack(node)
    return noted[-1][0] if noted else None


def tensor_targets(graph: fx.Graph) -> list[str]:
    """Return the targets of the tensors that the graph reads by name."""
    return list(dict.fromkeys(str(node.target) for node in graph.nodes if node.op == "get_attr"))


def layer_targets(graph: fx.Graph) -> list[str]:
    """Return the targets of the layers that the graph calls."""
    return list(dict.fromkeys(str(node.target) for node in graph.nodes if node.op == "call_module"))


def _homes(graph: fx.Graph, body: list[fx.Node]) -> dict[fx.Node, Path | None]:
    """Return the module in whose code each node stands; None: nothing says."""
    ends = {_parts(target) for target in (*layer_targets(graph), *tensor_targets(graph))}
    return {node: _above(home, ends) for node in body for home in [_home(node)]}


def _home(node: fx.Node) -> Path | None:
    """Read a node's module from the tracer's note, else from what the node calls or reads."""
    noted = _stack(node)
    if node.op == "call_module":
        parent = _parts(str(node.target))[:-1]
        return _common(noted[-1][0], parent) if noted else parent
    if noted:
        return noted[-1][0]
    owners = [_parts(str(arg.target))[:-1] for arg in node.all_input_nodes if arg.op == "get_attr"]
    # A tensor of the model itself says nothing: a rewrite keeps there what it puts in anywhere.
    return (reduce(_common, owners) or None) if owners else None


def _stack(node: fx.Node) -> list[tuple[Path, str]]:
    """Return the modules in whose code the node stands and their classes, innermost last; [] where nothing says."""
    noted = list((node.meta.get("nn_module_stack") or {}).values())
    if node.op == "call_module":  # the last is the layer itself
        noted = noted[:-1] or [("", nn.Module)] * len(noted)
    return [(_parts(path), kind if isinstance(kind, str) else kind.__name__) for path, kind in noted]


def _above(home: Path | None, ends: set[Path]) -> Path | None:
    """Cut the path before a layer or a tensor: these hold no code of ours."""
    if home is None:
        return None
    return next((home[: size - 1] for size in range(1, len(home) + 1) if home[:size] in ends), home)


def _runs(
    body: list[fx.Node], homes: dict[fx.Node, Path | None], called: set[Path]
) -> dict[int, list[tuple[Path, int]]]:
    """Map the index of a first node to the modules whose run starts there: (path, end), outermost first.

    Only `called` modules; any, where tracing noted none.
    """
    spans: dict[Path, tuple[int, int]] = {}
    for position, node in enumerate(body):
        home = homes[node] or ()
        for path in (home[:size] for size in range(1, len(home) + 1)):
            if path in called or not called:
                spans[path] = (spans.get(path, (position, position))[0], position)
    starts: dict[int, list[tuple[Path, int]]] = {}
    for path, (first, last) in sorted(spans.items(), key=lambda item: len(item[0])):
        inside = [homes[node] for node in body[first : last + 1]]
        members = set(body[first : last + 1])
        read = any(user not in members for node in members for user in node.users)
        if read and all(home is None or home[: len(path)] == path for home in inside):
            starts.setdefault(first, []).append((path, last + 1))
    return starts


@dataclass(frozen=True, slots=True)
class _Nesting:
    """Puts each run into a block of its own, inside the block of the run around it."""

    body: list[fx.Node]
    runs: dict[int, list[tuple[Path, int]]]
    sizes: frozenset[fx.Node]

    def block(self, path: Path, start: int, end: int) -> Block:
        items: list[fx.Node | Block] = []
        while start < end:
            inner = next((run for run in self.runs.get(start, ()) if len(run[0]) > len(path)), None)
            items.append(self.body[start] if inner is None else self.block(inner[0], start, inner[1]))
            start = start + 1 if inner is None else inner[1]
        return Block(path, items, self.sizes)


def _connect(block: Block) -> None:
    """Find what enters and leaves the block and the blocks inside it."""
    members = set(block.nodes())
    for node in block.nodes():
        for value in node.all_input_nodes:
            own = value.op == "get_attr" and _parts(str(value.target))[: len(block.path)] == block.path
            if value not in members and not own and value not in block.inputs:
                block.inputs.append(value)
        if any(user not in members for user in node.users):
            block.outputs.append(node)
    for item in block.items:
        if isinstance(item, Block):
            _connect(item)


def _parts(path: str) -> Path:
    return tuple(path.split(".")) if path else ()


def _common(left: Path, right: Path) -> Path:
    size = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    return left[:size]


def _sizes(graph: fx.Graph) -> frozenset[fx.Node]:
    """Return the nodes that are shapes, dtypes or devices, or plain arithmetic on these."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "call_method":
            known = node.target in _SIZES
        elif node.op == "call_function" and node.target is getattr:
            known = node.args[1] in _SIZES
        else:
            plain = getattr(node.target, "__module__", None) in ("_operator", "builtins", "math")
            known = plain and bool(node.all_input_nodes) and found.issuperset(node.all_input_nodes)
        if known:
            found.add(node)
    return frozenset(found)
