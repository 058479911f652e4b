"""What Python asks of traced values: answers from the example, and a record of each."""

from __future__ import annotations

import operator
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from campfire_fx.analysis.captured import Specialisation
from campfire_fx.analysis.evaluate import Evaluator
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import current_line, expression, summary
from campfire_fx.capture.attempts import failure
from campfire_fx.capture.formulas import Formula
from campfire_fx.capture.sizes import Sizes, compares_sizes
from campfire_fx.layers.refusals import parts_of

_Call = tuple[int, int]
Place = tuple[str, int]
"""A line of code, and how many comparisons of sizes it had made before."""


class Asked(Exception):
    """A question came while running what must not ask."""


@dataclass(frozen=True, slots=True)
class Question:
    """One asking: of which node, and how."""

    node: fx.Node
    form: str
    """The function that asked: `bool`, `int`, `len`, `str`, ...; `assert` where the model itself refuses the other."""


class Questions:
    """Answers of one trace. `facts` are the questions that the graph depends on, in the order asked.

    With each fact stand the questions that it is the answer of. `given`: what was taken from the arguments, each with
    the condition that an input must meet, if it can be said. `equalities`: lines of code that found sizes equal; those
    in `denied` are told that they are not. `kept`: what a model that was captured before asserts, by its message.
    """

    def __init__(self, evaluator: Evaluator, denied: frozenset[str] = frozenset()) -> None:
        self.equalities: dict[str, None] = {}
        self.comparisons: dict[fx.Node, Place] = {}
        self.equal: set[Place] = set()
        self._compared: Counter[str] = Counter()
        self._denied = denied
        self._sizes = Sizes(evaluator)
        self.facts: dict[Specialisation, list[Question]] = {}
        self.given: dict[Specialisation, Formula | None] = {}
        self.kept: dict[str, fx.Node] = {}
        self._evaluator = evaluator
        self._thread = threading.get_ident()
        self._is_evaluating = False
        self._is_silent = False
        self._asked: dict[_Call, list[tuple[Specialisation, Question]]] = {}
        self._asking: _Call | None = None

    def is_tracing(self) -> bool:
        """Return whether the code that runs now is the model's, and not an evaluation or another thread."""
        return not self._is_evaluating and threading.get_ident() == self._thread

    def close(self) -> None:
        """End the trace: what is left of it (code may have imported a patched function) does as without."""
        self._thread = 0

    def example(self, node: fx.Node) -> Any:
        """Return the example value of a node. Raises CaptureError where it depends on tensor data, or does not fit."""
        if node in self._evaluator.values:
            return self._evaluator.values[node]
        try:
            with self._evaluating():
                return self._evaluator.value(node)
        except Exception as error:
            why = "data decides its size" if isinstance(error, NotImplementedError) else summary(error)
            raise CaptureError(
                f"Question at {current_line()}: the answer needs {expression(node)}, which shapes alone do not tell "
                f"({why}). Move the decision out of the model, or trace its parts."
            ) from error

    def truth(self, node: fx.Node, raises: Callable[[bool], bool]) -> bool:
        """Answer whether the value of `node` is true; `raises`: whether the answer not given would lead to an error."""
        return bool(self.answer(node, "bool({})", bool, raises))

    def answer(
        self,
        node: fx.Node,
        template: str,
        answer: Callable[[Any], Any],
        raises: Callable[[bool], bool] = lambda _: False,
    ) -> Any:
        """Answer a question of Python's about the value of `node` from the example, and record it."""
        asked = template.format(expression(node))
        result = answer(self._value(node, asked, shape_will_do=template == "len({})"))
        if self._is_silent:
            raise Asked
        if _is_of_ranks(node):
            return result
        form = "assert" if raises(result) else template.partition("(")[0]
        if form == "bool" and self._is_equality(node, result):
            return not result
        fact = Specialisation(current_line(), asked, tuple(result) if isinstance(result, torch.Size) else result)
        question = Question(node, form)
        if question not in self.facts.setdefault(fact, []):
            self.facts[fact].append(question)
            if self._asking is not None:
                self._asked.setdefault(self._asking, []).append((fact, question))
        return result

    def failure(self, node: fx.Node) -> Exception | None:
        """Return the error of a node that fails on the example, and record it; None where it runs, or data decides."""
        with self._evaluating():
            error = failure(self._evaluator, node)
        if error is not None:
            self.facts[Specialisation(current_line(), f"{expression(node)} fails", True)] = []
        return error

    def keep(self, node: fx.Node, message: object) -> bool:
        """Keep a guard of an earlier capture that holds for the example; return whether it is one and does."""
        is_guard = isinstance(message, str) and bool(self.example(node)) and parts_of(message) is not None
        if is_guard:
            self.kept[str(message)] = node
        return is_guard

    def _is_equality(self, node: fx.Node, answer: bool) -> bool:
        """Note where two sizes are found equal, and return whether that is to be denied."""
        if not compares_sizes(node):
            return False
        where = current_line()
        self.comparisons[node] = place = (where, self._compared[where])
        self._compared[where] += 1
        if answer != (node.target is operator.eq):
            return False
        if not isinstance(self._sizes.of(node), Formula):  # equal for inputs of any size
            return False
        self.equalities[where] = None
        self.equal.add(place)
        return where in self._denied

    def _value(self, node: fx.Node, asked: str, *, shape_will_do: bool) -> Any:
        """Return the example value, or the true value where it takes data and no input has part in it."""
        unknown: CaptureError | None = None
        try:
            value = self.example(node)
            if shape_will_do or not isinstance(value, torch.Tensor):
                return value
        except CaptureError as error:
            unknown = error
        try:
            with self._evaluating():
                return self._evaluator.constant(node)
        except Exception as error:
            raise unknown or CaptureError(
                f"Control flow at {current_line()}: {asked} depends on the data of a tensor, so the graph would differ "
                "from input to input. Move the decision out of the model, or trace its parts."
            ) from error

    @contextmanager
    def asked_by(self, call: _Call) -> Iterator[None]:
        """Note that the questions in this block come from one call in the running code, which `take_back` may undo."""
        self._asking = call
        try:
            yield
        finally:
            self._asking = None

    def take_back(self, call: _Call) -> None:
        """Drop the questions of a call that then became a node: it keeps the size symbolic."""
        for fact, question in self._asked.pop(call, ()):
            self.facts[fact].remove(question)
            if not self.facts[fact]:
                del self.facts[fact]

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Raise `Asked` at any question in this block."""
        outer, self._is_silent = self._is_silent, True
        try:
            yield
        finally:
            self._is_silent = outer

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        outer, self._is_evaluating = self._is_evaluating, True
        try:
            yield
        finally:
            self._is_evaluating = outer


def _is_of_ranks(node: fx.Node) -> bool:
    """Return whether a value depends on numbers of dimensions alone, which are the model's for inputs of any size."""
    if node.op == "call_method" and node.target in ("dim", "ndimension"):
        return True
    if node.target is getattr:
        return str(node.args[1]) == "ndim"
    is_arithmetic = getattr(node.target, "__module__", None) == operator.eq.__module__
    return is_arithmetic and bool(node.all_input_nodes) and all(map(_is_of_ranks, node.all_input_nodes))
