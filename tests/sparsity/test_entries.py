"""The registry: every regime has an entry that says true and complete things about it, and can be found by it."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from functools import partial

import pytest

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import REGIMES, Regime, RegimeEntry, find_regimes, regime_named, regimes
from campfire_fx.sparsity.entry import FAMILIES, GAINS, NEEDS
from campfire_fx.sparsity.method import CURVATURE, GRADIENTS, INPUTS
from campfire_fx.sparsity.regimes import ENTRIES

every_entry = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


def test_every_function_that_makes_a_regime_has_an_entry_and_every_file_is_listed() -> None:
    made = {entry.make.func if isinstance(entry.make, partial) else entry.make for entry in ENTRIES.values()}
    for found in pkgutil.iter_modules(regimes.__path__):
        module = importlib.import_module(f"{regimes.__name__}.{found.name}")
        for name, function in vars(module).items():
            if getattr(function, "__module__", "") == module.__name__ and not name.startswith("_"):
                returned = typing.get_type_hints(function).get("return") if callable(function) else None
                assert returned is not Regime or function in made, f"{found.name}.{name}: add it to ENTRIES"
        for entry in getattr(module, "ENTRIES", ()):
            assert ENTRIES.get(entry.name) is entry, (
                f"{found.name}: add it to regimes/__init__.py, or {entry.name} twice"
            )
    assert list(REGIMES) == list(ENTRIES)


@every_entry
def test_an_entry_is_complete(entry: RegimeEntry) -> None:
    assert entry.family in FAMILIES and entry.gains in GAINS and set(entry.needs) <= NEEDS.keys()
    for line in (entry.does, entry.granularity, entry.source):
        assert line == line.strip() and line and "\n" not in line and not line.endswith(".")
    assert len(entry.does) <= 120 and "|" not in entry.does + entry.source
    assert entry.arxiv or "built here" in entry.source or "N:M" in entry.source


@every_entry
def test_an_entry_is_true(entry: RegimeEntry) -> None:
    regime = regime_named(entry.example or entry.name)
    assert regime.name == (entry.example or entry.name)
    for setting, default in entry.settings.items():
        assert regime_named(entry.name, **{setting: default}).name == regime.name
    needed = {"": set(), GRADIENTS: {"gradients"}, CURVATURE: {"steps before"}, INPUTS: {"data"}}
    assert needed[regime.method.gathers] <= set(entry.needs)


def test_regimes_are_found_by_words_and_by_family() -> None:
    assert find_regimes() == tuple(sorted(ENTRIES.values(), key=lambda one: list(FAMILIES).index(one.family)))
    names = {entry.name for entry in find_regimes("2001.03253", "Kernel")}
    assert names == {"window", "ck", "combined", "inter-epoch"}
    assert {entry.name for entry in find_regimes("kernels with the smallest", family="admm")} == {"admm-kernel"}
    assert {entry.name for entry in find_regimes("rho")} == {name for name in REGIMES if name.startswith("admm-")}
    assert find_regimes("no such thing") == ()
    with pytest.raises(RegimeError, match=r"family 'camp': there is none\. Did you mean 'campfire'\? There are camp"):
        find_regimes(family="camp")
