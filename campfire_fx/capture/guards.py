"""Guards: what the example decided is asserted whenever the graph runs.

A graph is right for every input that answers Python's questions as the example did. Each answer that another input
could change becomes a `assertion` in the graph, over sizes and arguments alone: no data is read, and what is said
of the inputs themselves is checked before anything is computed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from campfire_fx.analysis.captured import Specialisation
from campfire_fx.analysis.evaluate import Evaluator
from campfire_fx.base.compat import assertion
from campfire_fx.capture.formulas import OPEN, Formula, Size, Value, formula, holds, leaves, needs, text_of, with_sizes
from campfire_fx.capture.questions import Question, Questions
from campfire_fx.capture.sizes import Sizes
from campfire_fx.layers.refusals import ARGUMENT, parts_of, refusal

_OPPOSITE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.eq: operator.ne, operator.ne: operator.eq, operator.lt: operator.ge, operator.ge: operator.lt,
    operator.gt: operator.le, operator.le: operator.gt, operator.is_: operator.is_not, operator.is_not: operator.is_,
}  # fmt: skip
# Where a tensor lies changes when a model is moved, which is no input's doing.
_PLACES = frozenset("device is_cuda is_cpu is_meta is_mps is_xpu get_device".split())


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold of an input, and the question whose answer it keeps."""

    fact: Specialisation
    condition: Formula | Value
    form: str
    """How Python asked: `bool`, `int`, `str`, ...; `argument` for what was taken from an argument; `kept`."""
    kept: str = ""
    """The message, where it is kept from an earlier capture, or tells of several guards at once."""

    @property
    def needs(self) -> list[fx.Node]:
        """The nodes that the condition reads."""
        return needs(self.condition)

    @property
    def text(self) -> str:
        """The condition as Python text: `x.shape[2] > 3`."""
        if self.kept:
            return (parts_of(self.kept) or ("", self.kept))[1]
        return self.fact_text if self.form == "argument" else text_of(self.condition)

    @property
    def subject(self) -> str:
        """The argument, or the part of one, that the guard is about; "" where it is about a computation."""
        return self.fact.expression.removesuffix(" is None") if self.form == "argument" else ""

    @property
    def fact_text(self) -> str:
        """What was taken for granted, as the question and its answer."""
        fact = self.fact
        if fact.expression.endswith(" is None"):
            return fact.expression.replace(" is None", " is not None")
        equals = "=" if fact.expression.isidentifier() else " == "
        return f"{fact.expression}{equals}{fact.value!r}"

    @property
    def message(self) -> str:
        """What to tell whose input does not meet the condition."""
        if self.kept:
            return self.kept
        name = re.match(r"(?:\w+\()?(\w+)", self.fact.expression) if self.form == "argument" else None
        return refusal(f"{ARGUMENT} {name[1]}" if name else "Input", self.fact.where, self.text)


def guards_of(questions: Questions, evaluator: Evaluator) -> tuple[Guard, ...]:
    """Return the guards of a finished trace, each condition once, without those that others imply."""
    found: dict[Any, Guard] = {}
    sizes = Sizes(evaluator)
    for fact, (node, message) in kept_facts(questions).items():
        for condition in _asked(sizes, Question(node, "bool"), fact):
            found.setdefault(condition, Guard(fact, condition, "kept", message))
    for fact, taken in questions.given.items():
        if taken is not None:
            found.setdefault(taken, Guard(fact, taken, "argument"))
    for fact, asked in questions.facts.items():
        for question in asked:
            for condition in _asked(sizes, question, fact):
                found.setdefault(condition, Guard(fact, condition, question.form))
    return tuple(_without_implied(found.values()))


def kept_facts(questions: Questions) -> dict[Specialisation, tuple[fx.Node, str]]:
    """Return what a model that was captured before asserts of its inputs, with the node asked and the message."""
    parts = {message: parts_of(message) or ("", "") for message in questions.kept}
    return {Specialisation(*parts[message], True): (node, message) for message, node in questions.kept.items()}


def _asked(sizes: Sizes, question: Question, fact: Specialisation) -> list[Formula | Value]:
    """Return what must hold for a question to be answered as it was."""
    node, form, values = question.node, question.form, sizes.evaluator.values
    if form == "assert":
        return []  # the model itself refuses what would be answered otherwise
    if form == "len":
        here: Formula | Value = Formula(len, (Value(node),))
        asked, value = sizes.length(node), fact.value
    else:
        here, asked, value = Value(node), sizes.of(node), values.get(node)
        if isinstance(value, torch.Tensor):
            return []  # a constant
    conditions = list(_conditions(asked, form, value))
    sound = all(holds(condition, values) for condition in conditions)
    return conditions if sound else list(_conditions(here, form, value))


def _conditions(asked: Any, form: str, value: Any) -> Iterator[Formula | Value]:
    """Yield what must hold for a question to be answered as it was; nothing where no input can change that."""
    if form == "bool":
        conditions = [_decided(asked, bool(value), value)]
    elif type(asked) is tuple:
        conditions = [formula(operator.eq, part, answer) for part, answer in zip(asked, tuple(value), strict=True)]
    elif isinstance(value, list):
        conditions = [formula(operator.eq, formula(tuple, asked), tuple(value))]
    else:
        conditions = [formula(operator.eq, asked, value)]
    for condition in conditions:
        if isinstance(condition, (Formula, Value)) and _may_change(condition):
            yield condition


def _decided(asked: Any, answer: bool, value: Any) -> Any:
    """Return the condition under which a question about truth is answered so."""
    if not isinstance(asked, OPEN) or isinstance(asked, Size):
        return formula(operator.ne if answer else operator.eq, asked, 0) if isinstance(asked, Size) else answer
    if isinstance(asked, Formula) and asked.function is operator.not_:
        return _decided(asked.args[0], not answer, not value)
    if isinstance(asked, Formula) and asked.function in _OPPOSITE:
        return asked if answer else Formula(_OPPOSITE[asked.function], asked.args)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Formula(operator.ne if answer else operator.eq, (asked, 0))
    if not isinstance(value, bool):
        asked = Formula(bool, (asked,))
    return asked if answer else Formula(operator.not_, (asked,))


def _may_change(condition: Any) -> bool:
    """Return whether an input has part in a condition."""
    places = any(isinstance(leaf, Value) and _is_place(leaf.node) for leaf in leaves(condition))
    return not places and any(map(_reads_input, needs(condition)))


def _is_place(node: fx.Node) -> bool:
    name = node.args[1] if node.target is getattr else node.target
    return name in _PLACES or any(_is_place(need) for need in node.all_input_nodes if node.target is getattr)


def _reads_input(node: fx.Node) -> bool:
    seen, waiting = {node}, [node]
    while waiting:
        current = waiting.pop()
        if current.op == "placeholder":
            return True
        fresh = [need for need in current.all_input_nodes if need not in seen]
        seen.update(fresh)
        waiting += fresh
    return False


def _without_implied(guards: Iterable[Guard]) -> list[Guard]:
    """Leave out what is sure once every size that must have one value has it."""
    guards = list(guards)
    known = dict(
        leaf.condition.args for leaf in guards if isinstance(leaf.condition, Formula) and _fixes_size(leaf.condition)
    )
    return [g for g in guards if _fixes_size(g.condition) or not _is_true(with_sizes(g.condition, known))]


def _fixes_size(condition: Any) -> bool:
    return (
        isinstance(condition, Formula)
        and condition.function is operator.eq
        and isinstance(condition.args[0], Size)
        and isinstance(condition.args[1], int)
    )


def _is_true(value: Any) -> bool:
    return not isinstance(value, OPEN) and bool(value)


def insert(graph: fx.Graph, guards: Iterable[Guard]) -> None:
    """Write guards into a graph, each as early as what it reads allows."""
    writer = _Writer(graph)
    for guard in guards:
        condition = writer.write(guard.condition)
        writer.call(assertion, (condition, guard.message), writer.place(guard.condition))


class _Writer:
    """Writes formulas as nodes, equal ones once."""

    def __init__(self, graph: fx.Graph) -> None:
        self._order = {node: number for number, node in enumerate(graph.nodes)}
        self._start = [node for node in graph.nodes if node.op == "placeholder"][-1:]
        self._last: dict[fx.Node, fx.Node] = {}
        self._written: dict[Any, fx.Node] = {}
        self._graph = graph

    def place(self, value: Any) -> fx.Node:
        """Return the node after which all that a formula reads is there."""
        return max((*needs(value), *self._start), key=self._order.__getitem__)

    def write(self, value: Any) -> Any:
        """Return the node that computes a formula; a plain value comes back."""
        if isinstance(value, Value):
            return value.node
        if type(value) is tuple:
            return tuple([self.write(item) for item in value])
        if not isinstance(value, (Size, Formula)):
            return value
        if value not in self._written:
            if isinstance(value, Size):
                node = self.call("size", (value.tensor, value.dim), self.place(value))
            else:
                node = self.call(value.function, tuple([self.write(arg) for arg in value.args]), self.place(value))
            self._written[value] = node
        return self._written[value]

    def call(self, target: Any, args: tuple[Any, ...], place: fx.Node) -> fx.Node:
        """Add a call after `place`, and after what was added there before."""
        with self._graph.inserting_after(self._last.get(place, place)):
            create = self._graph.call_method if isinstance(target, str) else self._graph.call_function
            node = create(target, args)
        if place.op != "placeholder":
            node.meta["nn_module_stack"] = place.meta.get("nn_module_stack") or {}
        self._last[place] = node
        return node
