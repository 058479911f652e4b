"""The body of a `forward`: a block's nodes as statements, each with a variable to keep its value in.

Three steps. `_steps` turns nodes and inner blocks into steps. `_joined` puts a step into the next one where
that is its only reader, so that `self.relu(self.bn(self.conv(x)))` is one line; the order in which things run
never changes. `_named` hands out variables: a value takes the variable of an input that is read for the last
time, as people write it (`x = self.conv(x)`), so that no activation is held longer than it is needed.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from campfire_fx.export.expressions import Names, expression
from campfire_fx.export.literals import index
from campfire_fx.export.scopes import Block, Path

_POOL = ("x", "y", "z", "w", "v", "u")
_DEEPEST = 3
_LONGEST = 88
_JOINING = (torch.cat, torch.concat, torch.stack)

ALL = "*x"
"""The argument of a forward that takes any number of tensors."""

Access = Callable[[Path], str]
"""How the block's class writes a module or tensor below it: a path that starts at `self`."""


@dataclass(frozen=True, slots=True, eq=False)
class StatementStep:
    """One statement.

    Attributes:
        defines: the values it gives a variable to.
        uses: the values it reads from variables, once for each time.
        code: writes it, given the text of what it reads.
        inside: how to write the values that were computed by steps now inside this one.
        depth: how many steps it holds, one inside another.
    """

    defines: tuple[fx.Node, ...]
    uses: tuple[fx.Node, ...]
    code: Callable[[Names], str]
    inside: dict[fx.Node, Callable[[Names], str]] = field(default_factory=dict)
    depth: int = 1

    def text(self, variable: Names) -> str:
        """Write the step and what is inside it, given the names of the variables it reads."""

        def read(node: fx.Node) -> str:
            return self.inside[node](read) if node in self.inside else variable(node)

        return self.code(read)


def forward(block: Block, result: Any, arguments: list[str], access: Access) -> list[str]:
    """Return the lines of a forward's body, its return last.

    `result` is what it returns, graph nodes inside; `arguments` are the variables that `block.inputs` arrive
    in; one alone, `*x`, where the block `gathers` them.
    """
    writer = _StatementWriter(block, access)
    steps = [writer.step(item) for item in block.items if isinstance(item, Block) or not writer.is_free(item)]
    end = StatementStep(
        (), tuple(writer.variables(result)), lambda read: f"return {index(result, writer.names(read))}", depth=0
    )
    if arguments == [ALL]:
        arguments = [f"x[{number}]" for number in range(len(block.inputs))]
        together = dict(zip(block.inputs, arguments, strict=True))
        code = steps[0].text(together.__getitem__).replace(f"[{', '.join(arguments)}]", "x")
        steps[0] = replace(steps[0], code=lambda _: code)
    return _named(_joined([*steps, end]), dict(zip(block.inputs, arguments, strict=True)), block.sizes)


def gathers(block: Block) -> bool:
    """Say whether all that a block does with its inputs is to join them first, in their order, however many there are.

    Then its forward takes `*x`, and blocks that join more or fewer are one class: the layers of a DenseNet.
    """
    first = block.items[0] if block.items else None
    if not isinstance(first, fx.Node) or first.target not in _JOINING or list(first.args[:1]) != [block.inputs]:
        return False
    members = set(block.nodes())
    return all(user is first for node in block.inputs for user in node.users if user in members)


class _StatementWriter:
    """Writes the items of one block as steps, and knows which of its nodes need no variable."""

    def __init__(self, block: Block, access: Access) -> None:
        self.access = access
        self.inputs = set(block.inputs)
        self.own = {item for item in block.items if isinstance(item, fx.Node)}

    def step(self, item: fx.Node | Block) -> StatementStep:
        if isinstance(item, Block):
            values = list(item.inputs)
            called = self.access(item.path)
            return StatementStep(
                tuple(item.outputs),
                tuple(self.variables(values)),
                lambda read: f"{called}({', '.join(map(self.names(read), values))})",
            )
        return StatementStep(
            (item,) if item.users else (),
            tuple(self.variables((item.args, item.kwargs))),
            lambda read: expression(item, self.names(read), self._path),
        )

    def is_free(self, node: fx.Node) -> bool:
        """Say whether the node is written out wherever it is read: a tensor of `self`, or `value[3]`."""
        if node in self.inputs:
            return False
        picks = node.target is operator.getitem and isinstance(node.args[1], int)
        return node.op == "get_attr" or (picks and node in self.own)

    def variables(self, value: Any) -> list[fx.Node]:
        """Return the nodes whose variables are read to write the value, once for each time."""
        found: list[fx.Node] = []

        def visit(node: fx.Node) -> fx.Node:
            if not self.is_free(node):
                found.append(node)
            elif node.op != "get_attr":
                fx.map_arg(node.args, visit)
            return node

        fx.map_arg(value, visit)
        return found

    def names(self, read: Names) -> Names:
        """Return the text of any node, given the text of those that need a variable."""

        def name(node: fx.Node) -> str:
            if not self.is_free(node):
                return read(node)
            return self._path(str(node.target)) if node.op == "get_attr" else expression(node, name, self._path)

        return name

    def _path(self, target: str) -> str:
        return self.access(tuple(target.split(".")))


def _joined(steps: list[StatementStep]) -> list[StatementStep]:
    """Write a step inside the next one where that reads its value, and nothing else does."""
    reads = Counter(node for step in steps for node in step.uses)
    result: list[StatementStep] = []
    for step in steps:
        last = result[-1] if result else None
        if last is not None and len(last.defines) == 1 and reads[last.defines[0]] == 1:
            joined = _inside(last, step)
            short = len(joined.text(lambda _: "x")) <= _LONGEST and last.depth + step.depth <= _DEEPEST
            if last.defines[0] in step.uses and short:
                result[-1] = joined
                continue
        result.append(step)
    return result


def _inside(last: StatementStep, step: StatementStep) -> StatementStep:
    (value,) = last.defines
    uses = tuple(node for used in step.uses for node in (last.uses if used is value else (used,)))
    return replace(step, uses=uses, inside={**last.inside, value: last.code}, depth=last.depth + step.depth)


def _named(steps: list[StatementStep], variables: dict[fx.Node, str], sizes: frozenset[fx.Node]) -> list[str]:
    """Give each value a variable, and write the steps as lines."""
    last_read = {node: position for position, step in enumerate(steps) for node in step.uses}
    lines: list[str] = []
    for position, step in enumerate(steps):
        text = step.text(variables.__getitem__)
        ended = {variables.pop(node) for node in set(step.uses) if last_read[node] == position}
        for node in step.defines:
            variables[node] = _free_name(node in sizes, ended, set(variables.values()))
        names = ", ".join(variables[node] for node in step.defines)
        lines.append(f"{names} = {text}" if names else text)
    return lines


def _free_name(is_size: bool, ended: set[str], taken: set[str]) -> str:
    """Return a variable that is not taken, one whose value has just ended if there is one."""
    stem = "size" if is_size else "x"
    numbered = (f"{stem}{count}" for count in range(1, len(taken) + 2))
    free = [name for name in (*(("size",) if is_size else _POOL), *numbered) if name not in taken]
    return next((name for name in free if name in ended), free[0])
