"""Several examples: one pair of graphs for each way that they take through a model's code.

An example whose questions are answered as an earlier one's takes the same way. Where it is answered otherwise and the
graph is the same, the answer was no decision, and the guards are made to hold for both. Else it is a variant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import fx, nn

from campfire_fx.analysis.captured import Call
from campfire_fx.analysis.evaluate import Evaluator
from campfire_fx.analysis.graph_run import placeholder_values
from campfire_fx.base.errors import CaptureError
from campfire_fx.capture.alternatives import any_of
from campfire_fx.capture.execute import run
from campfire_fx.capture.formulas import holds
from campfire_fx.capture.guards import Guard
from campfire_fx.capture.probes import without_answered
from campfire_fx.capture.whole import Taken, Traced
from campfire_fx.layers.dual import DualGraphModule


def ways_of(model: nn.Module, examples: Sequence[Call], trace: Callable[[Call], Traced]) -> list[Taken]:
    """Return the ways that examples take through the code of `model`; `trace` traces it on one of them.

    Raises CaptureError where it cannot be captured for one of them.
    """
    ways: list[_Way] = []
    for number, call in enumerate(examples):
        taken = next((way for way in ways if any(accepts(model, traced, call) for traced in way.traces)), None)
        if taken is None:
            traced = trace(call)
            taken = next((way for way in ways if way.takes_in(traced)), None)
            if taken is None:
                taken = _Way([traced])
                ways.append(taken)
        taken.examples[number] = call
    return [Taken(way.traced(), way.examples) for way in ways]


@dataclass(slots=True, eq=False)
class _Way:
    """Traces that gave the same graphs, and the examples that are good for one of them."""

    traces: list[Traced]
    examples: dict[int, Call] = field(default_factory=dict)

    def takes_in(self, traced: Traced) -> bool:
        """Add a trace if it is of the same graphs, and one set of guards can tell what all of them are good for."""
        if not self.traces[0].same(traced):
            return False
        relaxed = [_relaxed(one, traced) for one in self.traces]
        for one in self.traces:
            traced = _relaxed(traced, one)
        if _merged([*relaxed, traced]) is None:
            return False
        self.traces = [*relaxed, traced]
        return True

    def traced(self) -> Traced:
        """Return the one trace that stands for all."""
        merged = _merged(self.traces)
        assert merged is not None
        return merged


def _relaxed(traced: Traced, other: Traced) -> Traced:
    """Return a trace without the guards, but for those on arguments, that another of the same graph answers otherwise.

    The answer was no decision then.
    """

    def needed(guards: Sequence[Guard]) -> tuple[Guard, ...]:
        left = set(without_answered(guards, other.specialisations))
        return tuple([guard for guard in guards if guard.subject or guard in left])

    return replace(traced, guards=needed(traced.guards), train_guards=needed(traced.train_guards))


def _merged(traces: Sequence[Traced]) -> Traced | None:
    """Return one of several traces of the same graphs, with guards that hold for what any is good for."""
    first = traces[0]
    guards = any_of(first.graph, [(traced.graph, traced.guards) for traced in traces])
    train: tuple[Guard, ...] | None = first.train_guards
    if first.train_graph is not None:
        pairs = [(traced.train_graph, traced.train_guards) for traced in traces if traced.train_graph is not None]
        train = any_of(first.train_graph, pairs)
    return None if guards is None or train is None else replace(first, guards=guards, train_guards=train)


def variant_of(module: DualGraphModule, call: Call) -> int | None:
    """Return which variant of a captured module these inputs run in evaluation; None where there is none, or one."""
    for number, is_open in module.candidates(*call):
        try:
            if is_open:
                run(module.only(number), *call)
        except CaptureError:
            continue
        return number
    return None


def accepts(model: nn.Module, traced: Traced, call: Call) -> bool:
    """Return whether the guards of a trace hold for other inputs, in both modes."""
    pairs = ((traced.graph, traced.guards), (traced.train_graph, traced.train_guards))
    return all(graph is None or _hold(model, traced, graph, guards, call) for graph, guards in pairs)


def _hold(model: nn.Module, traced: Traced, graph: fx.Graph, guards: Sequence[Guard], call: Call) -> bool:
    evaluator = Evaluator(model)
    evaluator.constants = traced.constants
    for node in graph.nodes:
        evaluator.created(node)
    inputs = graph.find_nodes(op="placeholder")
    for node, value in zip(inputs, placeholder_values(graph, *call), strict=True):
        evaluator.give(node, value)
    given = inspect.signature(model.forward).bind(*call[0], **call[1]).arguments
    try:
        takes_all = {str(node.target).lstrip("*") for node in inputs}.issuperset(given)
        return takes_all and all(_holds(evaluator, guard) for guard in guards)
    except Exception:  # noqa: BLE001  what cannot be asked of these inputs, or takes data to answer
        return False


def _holds(evaluator: Evaluator, guard: Guard) -> bool:
    for node in guard.needs:
        evaluator.value(node)
    return holds(guard.condition, evaluator.values)
