"""Targets of channel pruning: what the slim network may cost, as parts of the dense one or in numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.channels.choice import Limit, floors
from campfire_fx.sparsity.channels.costs import Cost, Tabled, channels_cost, macs_cost, parameters_cost
from campfire_fx.sparsity.channels.coupling import Alive, Coupling, Floats
from campfire_fx.sparsity.record import CostRecord


@dataclass(frozen=True, slots=True)
class Target:
    """The most that the slim network may cost; None: no limit. Several together all hold.

    Attributes:
        macs, parameters, latency: fractions of the dense network's, in (0, 1].
        gmacs: multiply-accumulates of one call on the example, in 10^9.
        mparameters: parameters, in 10^6.
        latency_ms: milliseconds of one call on the example.
    """

    macs: float | None = None
    parameters: float | None = None
    latency: float | None = None
    gmacs: float | None = None
    mparameters: float | None = None
    latency_ms: float | None = None

    @property
    def asked(self) -> dict[str, float]:
        """The limits that there are, by key."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @property
    def timed(self) -> bool:
        """Whether it limits time, for which a table of measured times is needed."""
        return self.latency is not None or self.latency_ms is not None


@dataclass(frozen=True, slots=True)
class _Key:
    """What a key of a target limits: which cost, and how much one of it is; `unit` None: a part of the dense cost."""

    cost: str
    unit: float | None = None


_KEYS = {
    "macs": _Key("macs"),
    "parameters": _Key("parameters"),
    "latency": _Key("latency"),
    "gmacs": _Key("macs", 1e9),
    "mparameters": _Key("parameters", 1e6),
    "latency_ms": _Key("latency", 1.0),
}


def as_target(given: object) -> Target:
    """Return a target from a dict as users give it.

    Raises:
        RegimeError: it is no dict, a key is unknown, or a number is out of range.
    """
    if isinstance(given, Target):
        return given
    if not isinstance(given, Mapping) or not given:
        raise RegimeError(f"target: {given!r} is not a dict of limits. Give one, as {{'macs': 0.5}}.")
    for key, value in given.items():
        if key not in _KEYS:
            raise RegimeError(
                f"target: unknown key {key!r}.{did_you_mean(str(key), _KEYS)} The keys are {', '.join(_KEYS)}."
            )
        _check(key, plain(value))
    return Target(**{key: float(plain(value)) for key, value in given.items()})


def _check(key: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and 0 < value <= (1 if _KEYS[key].unit is None else np.inf):
        return
    if _KEYS[key].unit is None:
        raise RegimeError(f"target at {key}: {value!r} is outside (0, 1]. Give the fraction of the dense cost to keep.")
    raise RegimeError(f"target at {key}: {value!r} is not a number above 0. Give the most that it may come to.")


def cost_of(coupling: Coupling, cost: str) -> Cost:
    """Return a cost of a model by name: "macs", "parameters", "channels" or "latency"."""
    make: dict[str, Callable[[Coupling], Cost]] = {
        "macs": macs_cost,
        "parameters": parameters_cost,
        "channels": channels_cost,
        "latency": Tabled.of,
    }
    return make[cost](coupling)


def costs_of(coupling: Coupling, alive: Alive | None = None) -> dict[str, float]:
    """Return what a model costs, by name of the cost; time only where it was measured."""
    widths = np.array([one.size for one in coupling.sets]) if alive is None else coupling.widths(alive)
    names = ["macs", "parameters", "channels", *(["latency"] if coupling.times is not None else [])]
    return {name: cost_of(coupling, name).total(widths.astype(np.float64)) for name in names}


def limits(target: Target, coupling: Coupling, fraction: float = 1.0) -> list[Limit]:
    """Return what must hold when `fraction` of the way from dense to the target is due."""
    found = []
    for key, value in target.asked.items():
        dense = coupling.dense[_KEYS[key].cost]
        final = value * (_KEYS[key].unit or dense)
        found.append(Limit(cost_of(coupling, _KEYS[key].cost), dense - fraction * max(0.0, dense - final)))
    return found


def record_costs(target: Target, coupling: Coupling, alive: Alive, fraction: float) -> tuple[CostRecord, ...]:
    """Return what is left of each cost, and what may be, when `fraction` of the way to the target is due."""
    due, final = (_least_of_each(target, limits(target, coupling, part)) for part in (fraction, 1.0))
    return tuple(
        CostRecord(name, now / dense, *(one[name] / dense for one in (due, final) if name in one))
        for name, now in costs_of(coupling, alive).items()
        if (dense := coupling.dense[name]) > 0
    )


def _least_of_each(target: Target, found: list[Limit]) -> dict[str, float]:
    """Return the most that each cost may come to, by its name, of limits in the order of `target.asked`."""
    most: dict[str, float] = {}
    for key, limit in zip(target.asked, found, strict=True):
        name = _KEYS[key].cost
        most[name] = min(limit.most, most.get(name, limit.most))
    return most


def require_possible(target: Target, coupling: Coupling, at_least: list[float], multiple: int = 1) -> None:
    """Raise a RegimeError if a target cannot be met although every set shrinks to its floor."""
    least: Floats = floors(coupling, at_least, multiple).astype(np.float64)
    for key, one in zip(target.asked, limits(target, coupling), strict=True):
        if one.excess(least) <= 0:
            continue
        unit = _KEYS[key].unit or coupling.dense[_KEYS[key].cost]
        settings = "at_least" if multiple == 1 else "at_least or round_to"
        raise RegimeError(
            f"target at {key}: {getattr(target, key):g} cannot be met; the least is {one.cost.total(least) / unit:.4g}."
            f"{coupling.standing} Ask for less, or lower {settings}."
        )
