"""Mutate the rule table: flip one fact of one row at a time, and list the mutants that no test of the table kills.

    tools/mutate                               one row of each kind, every fact but its flow
    tools/mutate --fields writes aliases       only these facts
    tools/mutate --rows "relu*" "conv?d"       only rows whose names match
    tools/mutate --sample 20 --seed 1          so many mutants, drawn at random

A mutant lives in a process of its own (forked, so that torch is loaded once): the table is patched there, and the
tests of that row are run until one fails. Each takes seconds. Ends with 1 if any survives.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import os
import random
import sys
import warnings
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
FIELDS = ("aliases", "axes", "constant", "pads", "random", "sizes", "writes")
TESTS = tuple(f"tests.analysis.rules.{name}" for name in ("test_facts", "test_memory", "test_constants", "test_law"))


@dataclass(frozen=True)
class Mutant:
    """One row with one fact changed."""

    target: Hashable
    name: str
    field: str
    old: str
    new: Any
    """What the fact becomes."""

    def __str__(self) -> str:
        new = self.new.name if isinstance(self.new, Enum) else str(self.new)
        return f"{self.name}: {self.field} {self.old} -> {new}"


def mutants(fields: tuple[str, ...], patterns: list[str], *, every: bool) -> Iterator[Mutant]:
    """Yield the mutants of the rows whose names match; not `every`: of the first such row of each set of facts."""
    from campfire_fx.analysis.rules import table

    name_of = importlib.import_module("tests.analysis.rules.test_samples").name_of
    seen: set[Any] = set()
    for target, row in table().items():
        name = name_of(target)
        if not any(fnmatch.fnmatch(name, f"*{pattern}") for pattern in patterns):
            continue
        for field in fields:
            old = getattr(row, field)
            key = (row.kind, field, old if isinstance(old, (Enum, bool)) else callable(old))
            if every or key not in seen:
                seen.add(key)
                shown = old.name if isinstance(old, Enum) else getattr(old, "__name__", str(old))
                yield from (Mutant(target, name, field, shown, new) for new in _others(old, field))


def _others(old: Any, field: str) -> Iterator[Any]:
    """Yield what else a fact could say: other members of its enum, the opposite, nothing."""
    if isinstance(old, Enum):
        yield from (member for member in type(old) if member is not old)
    elif field == "axes":
        if old is not None:
            yield from (_all_axes, None)
    elif isinstance(old, bool):
        yield not old
    elif old is not None:
        yield from (True, False)


def _all_axes(call: Any) -> list[int]:
    return list(range(len(call.get(0, "input").shape)))


def _survives(mutant: Mutant) -> bool:
    """Patch the table in this process, and run the tests of the row, which are made from the table as it is now."""
    from campfire_fx.analysis.rules import record

    record._TABLE[mutant.target] = replace(record._TABLE[mutant.target], **{mutant.field: mutant.new})
    warnings.simplefilter("ignore")
    return all(_passes(test, values) for test, values in _tests(mutant.target))


def _passes(test: Any, values: tuple[Any, ...]) -> bool:
    try:
        test(*values)
    except pytest.skip.Exception:
        return True
    except Exception:  # noqa: BLE001  a mutant that breaks the analysis is seen too
        return False
    return True


def _tests(target: Hashable) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the test functions with those of their parameters that are of a row."""
    for module in map(importlib.import_module, TESTS):
        for name, test in vars(module).items():
            for mark in getattr(test, "pytestmark", ()) if name.startswith("test_") else ():
                for given in mark.args[1]:
                    values = given.values if hasattr(given, "values") else (given,)
                    if isinstance(values[0], Hashable) and values[0] == target:
                        yield test, values


def killed(mutant: Mutant) -> bool:
    """Return whether any test of the row fails on a mutant."""
    child = os.fork()
    if child == 0:
        survives = True
        try:
            survives = _survives(mutant)
        finally:
            os._exit(int(survives))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 1


def main() -> int:
    """Print the mutants that survive; returns 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", nargs="+", default=FIELDS, choices=FIELDS, metavar="FACT")
    parser.add_argument("--rows", nargs="+", default=None, metavar="PATTERN", help="names of rows, with * and ?")
    parser.add_argument("--sample", type=int, default=None, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    chosen = list(mutants(tuple(given.fields), given.rows or ["*"], every=given.rows is not None))
    if given.sample is not None:
        chosen = random.Random(given.seed).sample(chosen, min(given.sample, len(chosen)))
    console = Console()
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        dead = killed(mutant)
        survivors += [] if dead else [mutant]
        console.print(f"{number} of {len(chosen)}: {'killed  ' if dead else 'SURVIVES'} {mutant}", highlight=False)
    table = Table("row", "fact", "is", "could be", title=f"{len(survivors)} of {len(chosen)} mutants survive")
    for mutant in survivors:
        table.add_row(mutant.name, mutant.field, mutant.old, getattr(mutant.new, "name", str(mutant.new)))
    console.print(table)
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
