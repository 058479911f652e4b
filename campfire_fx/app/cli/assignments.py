"""Arguments of `sparsify`, written on a command line as NAME=VALUE."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import typer

from campfire_fx.base.hints import did_you_mean
from campfire_fx.training.sparsify import sparsify

# These have options of their own, or cannot be written on a command line.
_ELSEWHERE = ("model", "regime", "sparsity", "era", "example_inputs", "examples", "overrides", "target", "frozen")
SETTINGS = tuple(name for name in inspect.signature(sparsify).parameters if name not in _ELSEWHERE)


def sparsify_arguments(
    settings: Sequence[str], overrides: Sequence[str], targets: Sequence[str] = ()
) -> dict[str, Any]:
    """Return arguments of `sparsify` from NAME=VALUE, for single layers PATTERN=SPARSITY, and targets COST=VALUE."""
    found: dict[str, Any] = {}
    for text in settings:
        name, value = _parted(text, "--set", "NAME=VALUE, as window_cap=2")
        if name not in SETTINGS:
            raise typer.BadParameter(f"--set {text}: there is no '{name}'.{did_you_mean(name, SETTINGS)} {_all()}")
        found[name] = _plain(value)
    layers = {}
    for text in overrides:
        pattern, value = _parted(text, "--override", "PATTERN=SPARSITY, as 'layer1.*=0.4'")
        layers[pattern] = _plain(value)
    target = {}
    for text in (part for given in targets for part in given.split(",")):
        cost, value = _parted(text, "--target", "COST=VALUE, as macs=0.5")
        target[cost] = _plain(value)
    return found | ({"overrides": layers} if layers else {}) | ({"target": target} if target else {})


def _parted(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise typer.BadParameter(f"{option} {text}: it is not of the form {form}.")
    return name.strip(), value.strip()


def _plain(value: str) -> Any:
    """Return a number, true or false as such, and everything else as text; `sparsify` says what it cannot take."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _all() -> str:
    return f"There are {', '.join(SETTINGS)}."
