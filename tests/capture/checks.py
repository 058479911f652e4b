"""What every capture must hold to, as one assertion."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.capture import trace
from tests.snapshot import Snapshot, assert_untouched


def call(model: nn.Module, inputs: Any) -> Any:
    """Call a model as example inputs are given."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def same(a: Any, b: Any) -> bool:
    """Return whether two outputs are equal to the bit, in type and structure too."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def captured_whole(model: nn.Module, example: Any, *others: Any) -> Captured:
    """Trace `model`; check that it was captured whole and runs like the model, in both modes, on other inputs too."""
    model.eval()
    snapshot = Snapshot.of(model)
    captured = trace(model, example)
    assert captured.whole, captured.untraced
    assert_untouched(model, snapshot)
    for inputs in (example, *others):
        with torch.no_grad():
            assert same(call(captured.module, copy.deepcopy(inputs)), call(model, copy.deepcopy(inputs)))
        assert_trains_alike(captured.module, model, inputs)
    return captured


def assert_trains_alike(module: nn.Module, model: nn.Module, inputs: Any) -> None:
    """Check that outputs, and the buffers left behind, agree in training."""
    module, model = copy.deepcopy(module).train(), copy.deepcopy(model).train()
    results = []
    for each in (module, model):
        torch.manual_seed(0)
        results.append((call(each, copy.deepcopy(inputs)), each.state_dict()))
    assert same(results[0][0], results[1][0])
    assert list(results[0][1]) == list(results[1][1])
    for key, value in results[1][1].items():
        assert torch.equal(results[0][1][key], value), key


def doubled(value: Any) -> Any:
    """Double a tensor; a habit imports this where it is used."""
    return value * 2 if isinstance(value, torch.Tensor) else value
