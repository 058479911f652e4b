"""Acceleration without a clock: which form is fastest is said, and not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from torch import nn

from campfire_fx.acceleration import accelerate as whole
from campfire_fx.acceleration import choice
from campfire_fx.cost.measure import Latency
from campfire_fx.kernels.compiler import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="this machine has no C++ compiler")


def last_is_fastest(modules: Sequence[nn.Module], _: object) -> list[float]:
    return [1.0 / (1 + place) for place in range(len(modules))]


def prefer(monkeypatch: pytest.MonkeyPatch, form: str = "accelerated") -> None:
    """Let the last form of each layer be the fastest that can be made, and this one the fastest of the network."""
    times = {"dense": 3.0, "dense, channels last": 2.5, "accelerated": 2.9, form: 1.0}
    monkeypatch.setattr(choice, "_measured", last_is_fastest)
    monkeypatch.setattr(whole, "whole_times", lambda *_: {name: Latency(ms, ms, ms, 1) for name, ms in times.items()})


def forms(model: Any) -> dict[str, str]:
    """Return the form of each layer of an accelerated model."""
    return {layer.name: layer.form for layer in model.acceleration.layers}
