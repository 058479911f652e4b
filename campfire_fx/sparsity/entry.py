"""What can be looked up about a regime: a record beside its definition, from which lists and documents are made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from campfire_fx.base.records import Record
from campfire_fx.sparsity.regime import Regime

FAMILIES: Mapping[str, str] = {
    "campfire": "gradual pruning inside kernels and of whole kernels by magnitude; then fixed masks",
    "magnitude": "prunes the smallest along a schedule; pruned weights stay zero",
    "channels": "whole channels, together in all layers that they couple",
    "admm": "ADMM drives weights to a structured sparsity, then cuts",
    "penalty": "a penalty on weights, filters or BatchNorm scales drives them to zero in training",
    "dynamic": "sparse from the first step; prunes and regrows weights",
    "swat": "all weights train; only the largest compute",
    "early": "masks chosen before training, or weights rewound to early values",
    "pattern": "zeros in a pattern that certain hardware or runtimes use",
}
"""The families, in the order in which they are listed, each with what its regimes have in common."""

NEEDS: Mapping[str, str] = {
    "gradients": "gradients of the loss in attached training steps",
    "data": "some batches of data, by `gather`",
    "momentum": "an attached optimizer with momentum",
    "steps before": "some batches of data before training, by `gather`",
    "epochs after": "epochs after the era, in which the masks are fixed",
    "several trainings": "more than one training",
}
"""What a regime may need beyond a training with epochs, which all do."""

GAINS: Mapping[str, str] = {
    "channels": "`shrink` makes the network smaller and faster, for any runtime",
    "columns": "`shrink` crops kernels; `columns=True` leaves out other columns where that is faster",
    "kernels": "hardware and libraries that skip whole kernels of zeros",
    "weights": "hardware and libraries that skip single zeros",
    "classifier": "`shrink` removes channels that pruned linear layers no longer read",
    "2:4": "GPUs with sparse tensor cores (2:4)",
    "1x4": "MNN's sparse convolutions",
    "groups": "`shrink` makes grouped convolutions, which any runtime has",
}
"""What zeros of a kind make smaller or faster."""

HARDLY_SMALLER = 0.98
"""Of the parameters: where more than this is left, a shrink has made next to nothing smaller."""

_REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeEntry(Record):
    """A regime as it is listed.

    Attributes:
        name: what `sparsify` calls it.
        make: returns the `Regime`; its parameters with a default are the settings.
        does: one line: what dies, chosen how. It goes on after "The regime ...", without a full stop.
        family: a key of `FAMILIES`.
        granularity: what dies together: "weight", "kernel", "filter", ...
        gains: a key of `GAINS`.
        source: authors and year, arXiv number, section or algorithm; or "built here", with what it builds on.
        needs: keys of `NEEDS`.
        example: a name that can be used, where `name` stands for several (n:m).
    """

    name: str
    make: Callable[..., Regime]
    does: str
    family: str
    granularity: str
    gains: str
    source: str
    needs: tuple[str, ...] = ()
    example: str = ""

    @property
    def arxiv(self) -> tuple[str, ...]:
        """The arXiv numbers in its source."""
        return tuple(re.findall(r"\b\d{4}\.\d{4,5}\b", self.source))

    @property
    def text(self) -> str:
        """All that is said of it, in small letters, to be searched."""
        said = (self.name, self.does, self.family, self.granularity, self.gains, self.source)
        return " ".join((*said, GAINS[self.gains], *self.needs, *self.settings)).lower()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, under the names that `sparsify` has for them, and their defaults."""
        if self.example:  # there they stand in the name
            return {}
        defaults = {name: one.default for name, one in settings_of(self.make).items()}
        return {name: getattr(value, "name", value) for name, value in defaults.items() if value is not _REQUIRED}


def settings_of(make: Callable[..., Regime]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a regime under the names that `sparsify` has for them."""
    return {_asked_as(parameter): parameter for parameter in inspect.signature(make).parameters.values()}


def _asked_as(parameter: inspect.Parameter) -> str:
    if parameter.annotation == "Scope":  # of groups of weights; "scope" is that of coupled channels
        return "ck_scope"
    return "window_cap" if parameter.name == "cap" else parameter.name
