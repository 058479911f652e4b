"""What a pass is, and the one runner of passes, which checks that each keeps its word."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import fx

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.facts import Facts
from campfire_fx.base.errors import PassError
from campfire_fx.base.untouched import snapshot
from campfire_fx.layers.dual import DualGraphModule, graphs_of

logger = logging.getLogger(__name__)

DUMP = "CAMPFIRE_FX_DUMP"
"""Environment variable: the folder into which the graphs before and after each pass are written."""

Condition = Callable[[Facts], bool]
"""What must hold before or after a pass; its name says what, for the author of a pass who has missed it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass did: whether anything is another than before, and records of it, for the plan."""

    changed: bool
    done: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Pass:
    """Graph -> graph: called with a captured model and its facts, it edits the model in place.

    Attributes:
        name: that of its function.
        call: the function, `(facts, **options) -> Result`.
        requires, ensures: what must hold of the facts before, and of those after it.
        doing: what to tell users while it runs, if that may take long.
        options: for `call`.
    """

    name: str
    call: Callable[..., Result]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()
    doing: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, facts: Facts) -> Result:
        """Edit the captured model."""
        return self.call(facts, **self.options)

    def given(self, **options: Any) -> Pass:
        """Return this pass with options."""
        return replace(self, options={**self.options, **options})


def graph_pass(
    *, requires: tuple[Condition, ...] = (), ensures: tuple[Condition, ...] = (), doing: str = ""
) -> Callable[[Callable[..., Result]], Pass]:
    """Make a function a pass."""
    return lambda call: Pass(call.__name__, call, requires, ensures, doing)


def nothing_decided(facts: Facts) -> bool:
    """Facts are of the graphs as they are."""
    return facts.removal is None


def removal_decided(facts: Facts) -> bool:
    """It is known what goes."""
    return facts.removal is not None


@dataclass(frozen=True, slots=True)
class PassesRun:
    """What a sequence of passes did: the facts to go on with, whether anything changed, and all records."""

    facts: Facts
    changed: bool
    done: tuple[Any, ...]


def run(facts: Facts, passes: Iterable[Pass], progress: Callable[[str], None] = lambda _: None) -> PassesRun:
    """Run passes in order. Graphs that run afterwards must be compiled anew: see `recompile`.

    Raises:
        PassError: a pass does not keep its word; for its author.
    """
    passes, done, changed, dump = tuple(passes), list[Any](), False, _dump_folder()
    before = _state(facts.captured)
    for number, one in enumerate(passes, 1):
        _check(one, one.requires, facts, "requires")
        _dump(dump, f"{number:02}_{one.name}_before", facts.captured)
        if one.doing:
            progress(one.doing)
        result = one(facts)
        after = _state(facts.captured)
        _check_changed(one, result.changed, before, after)
        logger.debug("pass %s: %s", one.name, "changed" if result.changed else "no change")
        if result.changed:
            facts, changed = facts.after_change(), True
        _dump(dump, f"{number:02}_{one.name}_after", facts.captured)
        _check(one, one.ensures, facts, "ensures")
        done += result.done
        before = after
    return PassesRun(facts, changed, tuple(done))


def apply(captured: Captured, *passes: Pass) -> tuple[Any, ...]:
    """Run passes on a captured model whose graphs are used right after, and return their records."""
    outcome = run(Facts(captured), passes)
    recompile(captured)
    return outcome.done


def recompile(captured: Captured) -> None:
    """Check the form of every graph, and generate its code."""
    for island in captured.islands:
        for graph in graphs_of(island.module):
            graph.lint()
        island.module.recompile()


def _check(one: Pass, conditions: Iterable[Condition], facts: Facts, word: str) -> None:
    for condition in conditions:
        if not condition(facts):
            raise PassError(
                f"Pass {one.name}: it {word} {condition.__name__} ({condition.__doc__}), which does not hold. "
                f"For its author: {'call it where that holds' if word == 'requires' else 'make the pass see to that'}."
            )


def _check_changed(one: Pass, said: bool, before: _State, after: _State) -> None:
    """Raise if what a pass says of having changed anything is not so."""
    place = next((place for place in {**before, **after} if before.get(place) != after.get(place)), None)
    if said is (place is not None):
        return
    fact = "nothing has" if place is None else f"{place} has"
    raise PassError(
        f"Pass {one.name}: it says changed={said}, but {fact} changed. "
        "For its author: return a Result that says what was done."
    )


_State = dict[str, Any]


def _state(captured: Captured) -> _State:
    """Return what tells whether a captured model has changed, by place."""
    state: _State = {
        f"{name} of {island.path or 'the model'}": [(n, n.op, n.target, n.args, n.kwargs) for n in graph.nodes]
        for island in captured.islands
        for name, graph in _named_graphs(island.module)
    }
    state.update((f"module {path}", snapshot(module)) for path, module in captured.module.named_modules())
    return state


def _named_graphs(module: DualGraphModule) -> list[tuple[str, fx.Graph]]:
    named: list[tuple[str, fx.Graph]] = []
    for number, modes in enumerate(module.graph_variants):
        which = f" {number + 1}" if number else ""
        named += [(f"graph{which}", modes.graph)]
        named += [(f"training graph{which}", modes.train_graph)] if modes.train_graph is not None else []
    return named


def _dump_folder() -> Path | None:
    """Return a new folder for the dumps of this run, or None where none are asked for."""
    home = os.environ.get(DUMP)
    if not home:
        return None
    number = 1
    while (folder := Path(home) / f"run_{number:03}").exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def _dump(folder: Path | None, name: str, captured: Captured) -> None:
    """Write every graph as text, and the shapes of the tensors that it reads."""
    if folder is None:
        return
    lines: list[str] = []
    for island in captured.islands:
        for title, graph in _named_graphs(island.module):
            lines += [f"# {title} of {island.path or 'the model'}", str(graph).strip(), ""]
    lines.append("# tensors")
    lines += [f"{path}: {tuple(tensor.shape)}" for path, tensor in captured.module.state_dict().items()]
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
