"""Every rule is a pure function: it changes nothing that is known, and finds the same again."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules import Call, Held, Kind, OpRule, table
from campfire_fx.analysis.rules.found import Found
from campfire_fx.analysis.rules.structure import Structure
from tests.analysis.rules.alone import Sample, alone
from tests.analysis.rules.test_law import every_sample


def _plain(value: Any) -> Any:
    """Return what can be compared, and is a copy."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), repr(value.tolist()))  # a text, in which NaN is NaN
    if isinstance(value, (fx.Node, nn.Module, OpRule)):
        return id(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, f.name)) for f in dataclasses.fields(value)]
    return value


def _known(structure: Structure) -> Any:
    fields = [f.name for f in dataclasses.fields(structure) if f.name != "forest"]
    return [_plain(structure.forest.roots()), *(_plain(getattr(structure, name)) for name in fields)]


def _found(found: Found) -> Any:
    roots = found.forest.find(torch.arange(found.forest.size, dtype=torch.float64))
    notes = [(table, _plain(entry)) for (table, _), entry in found.notes.items()]  # virtual mixers have new weights
    return [_plain(roots), _plain(found.labels), _plain(found.pins), notes]


@every_sample
def test_a_rule_changes_nothing_and_finds_the_same_again(
    target: Hashable, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, seen = OpRule.flow, []

    def checked(rule: OpRule, call: Call) -> Found:
        before = _known(call.structure), _plain((call.args, call.kwargs))
        first, second = flow(rule, call), flow(rule, call)
        assert (_known(call.structure), _plain((call.args, call.kwargs))) == before
        assert _found(first) == _found(second)
        seen.append(call.node)
        return first

    monkeypatch.setattr(OpRule, "flow", checked)
    one = alone(target, sample)
    reads = any(isinstance(one.run.values[n], (Labelled, Held)) for n in one.node.all_input_nodes)
    assert one.node in seen or not reads or table()[target].kind is Kind.ASK
