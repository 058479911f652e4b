"""Assignment: which rule, schedule and final sparsity each layer gets, or why it stays dense."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.budget import Budget
from campfire_fx.sparsity.channels.choice import check_floor
from campfire_fx.sparsity.gradual import GRADUAL
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.penalty import Penalty
from campfire_fx.sparsity.prunable import Fit, PrunableLayer
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes import is_asked, refuse_setting, regime_named
from campfire_fx.sparsity.schedule import Schedule, towards
from campfire_fx.sparsity.selection import WHOLE, Rule

Override = float | Mapping[str, object]
FROZEN = "it is frozen"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one layer is asked for; no rule means that it stays dense, and `reason` says why.

    `remark` is what else the regime says of it.

    A budget means that the layer's sparsity is a part of what that budget divides; `at_least` that so much of each
    coupled set which the layer writes has to stay, a share or, as a whole number, a count of channels; a penalty that
    the layer's weights are drawn to zero beside what its method does.
    """

    name: str
    sparsity: float
    schedule: Schedule
    rule: Rule | None
    method: Method = GRADUAL
    budget: Budget | None = None
    reason: str = ""
    remark: str = ""
    at_least: float | None = None
    penalty: Penalty | None = None
    head: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What `sparsify` was asked for: see there."""

    regime: Regime
    sparsity: float
    era: tuple[int, int]
    exponent: float = 3.0
    prune_1x1: bool = True
    prune_stem: bool | None = None
    prune_fc: bool = True
    frozen: tuple[str, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)


def assign(layers: Sequence[PrunableLayer], settings: Request) -> tuple[Assignment, ...]:
    """Give each layer its rule, schedule and final sparsity.

    A pattern of `overrides` is matched against layer paths as file names are (`layer4.*`); of several that match,
    the last has the last word on each setting. N:M keeps the sparsity it fixes. A layer named without a wildcard is
    pruned whatever the switches say.

    Raises:
        RegimeError: a number is out of range, a pattern matches no layer, or a setting is unknown.
    """
    check_sparsity(settings.sparsity, "sparsify")
    names = [layer.name for layer in layers]
    for pattern, wish in settings.overrides.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise RegimeError(f"overrides '{pattern}': no layer has such a path.{did_you_mean(pattern, names)}")
        _check_override(pattern, wish)
    assignments = {layer.name: _assign_one(layer, settings) for layer in layers}
    shapes = {layer.name: layer.shape for layer in layers}
    for budget in {a.budget for a in assignments.values() if a.budget is not None}:
        shared = [a for a in assignments.values() if a.budget == budget]
        parts = budget.divide([shapes[a.name] for a in shared], settings.sparsity)
        assignments |= {a.name: _part_of(budget, a, part) for a, part in zip(shared, parts, strict=True)}
    return tuple(assignments.values())


def _part_of(budget: Budget, assignment: Assignment, sparsity: float) -> Assignment:
    if sparsity > 0:
        return replace(assignment, sparsity=sparsity, schedule=towards(assignment.schedule, sparsity))
    reason = f"{type(budget).__name__} gives it all of its weights"
    return replace(assignment, sparsity=0.0, rule=None, budget=None, reason=reason)


def check_sparsity(value: object, where: str) -> float:
    """Return a sparsity that is a number in [0, 1), or raise."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise RegimeError(
            f"sparsity at {where}: {value!r} is outside [0, 1). Give the fraction of weights to remove: 0.7 is 70 %."
        )
    return float(value)


def _assign_one(layer: PrunableLayer, settings: Request) -> Assignment:
    given: dict[str, Any] = {}
    for pattern, wish in settings.overrides.items():
        if fnmatch.fnmatchcase(layer.name, pattern):
            given |= _as_settings(wish)
    era = check_era(given.get("era", settings.era), layer.name)
    try:
        regime = as_regime(given.get("regime", settings.regime))
        schedule = regime.schedule(*era, plain(given.get("exponent", settings.exponent)))
    except RegimeError as error:
        raise RegimeError(f"overrides at {layer.name}: {error}") from None
    sparsity = plain(given.get("sparsity", settings.sparsity))
    rule, reason, remark = _rule(layer, regime, settings)
    if regime.method.couples:
        spared = layer.stem and settings.prune_stem is None and not regime.stem and reason != FROZEN
        why = "" if spared else reason
        asked = Assignment(
            layer.name, float(sparsity), schedule, rule, regime.method, reason=why, penalty=regime.penalty
        )
        return _coupled(asked, given.get("at_least"))
    if "at_least" in given:
        raise RegimeError(f"overrides at {layer.name}: regime '{regime.name}' has no at_least, its channels die alone.")
    if rule is not None and sparsity == 0:
        rule, reason = None, "sparsity 0 was asked for"
    if rule is None:
        return Assignment(layer.name, 0.0, schedule, None, regime.method, reason=reason)
    if regime.sparsity is not None:
        sparsity = regime.sparsity
    budget = None if "sparsity" in given else regime.budget
    due = towards(schedule, sparsity)
    beside: dict[str, Any] = {"penalty": regime.penalty, "head": layer.head, "remark": remark}
    return Assignment(layer.name, float(sparsity), due, rule, regime.method, budget, **beside)


def _coupled(asked: Assignment, at_least: Any) -> Assignment:
    """Return what a layer of coupled channels is asked for: one that is to stay dense keeps all channels it writes.

    It may lose inputs all the same.
    """
    reason = "sparsity 0 was asked for" if asked.sparsity == 0 else asked.reason
    at_least = None if at_least is None else check_floor(at_least, asked.name)
    if reason:
        return replace(asked, rule=WHOLE, reason=f"its channels stay: {reason}", at_least=1.0)
    return replace(asked, rule=asked.rule or WHOLE, at_least=at_least)


def _rule(layer: PrunableLayer, regime: Regime, settings: Request) -> tuple[Rule | None, str, str]:
    """Return the rule of a layer, or why it has none, and what else there is to say of it."""
    if is_in(layer.name, settings.frozen):
        return None, FROZEN, ""
    if layer.name not in settings.overrides:
        if layer.linear and not settings.prune_fc:
            return None, "prune_fc is off", ""
        if layer.stem and not (regime.stem if settings.prune_stem is None else settings.prune_stem):
            return None, "it reads the model's input (prune_stem is off)", ""
        if not layer.linear and layer.kernel == 1 and not settings.prune_1x1:
            return None, "prune_1x1 is off", ""
    kind = "linear" if layer.linear else "pointwise" if layer.kernel == 1 else "spatial"
    rule: Rule | None = getattr(regime, kind)
    what = {"linear": "linear layers", "pointwise": "1x1 convolutions", "spatial": "convolutions"}[kind]
    if rule is None:
        return None, f"regime '{regime.name}' leaves {what} dense", ""
    fit = Fit(takes_part=True) if regime.fits is None else regime.fits(layer)
    return (rule, "", fit.remark) if fit.takes_part else (None, fit.remark, "")


def is_in(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern matches the path of a module, or that of one which it is a part of."""
    names = path.split(".")
    wholes = [".".join(names[: count + 1]) for count in range(len(names))]
    return any(fnmatch.fnmatchcase(whole, pattern) for whole in wholes for pattern in patterns)


def as_regime(regime: object, **settings: Any) -> Regime:
    """Return a regime given by name, with settings of `regime_named`, or as a composition, which has its own."""
    if isinstance(regime, str):
        return regime_named(regime, **settings)
    if isinstance(regime, Regime):
        for setting in (name for name, value in settings.items() if is_asked(name, value)):
            refuse_setting(setting, regime.name)
        return regime
    raise RegimeError(f"regime: {regime!r} is neither a name nor a Regime. Give a name, as 'combined'.")


def check_era(era: object, where: str) -> tuple[int, int]:
    """Return an era that is a pair of whole numbers, or raise; whether it is a span is the schedule's to say."""
    pair = tuple(map(plain, era)) if isinstance(era, Sequence) else ()
    if len(pair) == 2 and all(isinstance(e, int) for e in pair):
        return pair[0], pair[1]
    raise RegimeError(f"era at {where}: {era!r} is not a pair of epochs. Give (start, end), counted from 0.")


def _check_override(pattern: str, wish: Override) -> None:
    where, given = f"overrides '{pattern}'", _as_settings(wish)
    known = ("sparsity", "era", "exponent", "regime", "at_least")
    for key in given:
        if key not in known:
            fact = f"'{key}' is no setting of a layer.{did_you_mean(key, known)}"
            raise RegimeError(f"{where}: {fact} The settings are {', '.join(known)}.")
    if "sparsity" in given:
        check_sparsity(given["sparsity"], where)


def _as_settings(wish: Override) -> Mapping[str, Any]:
    return wish if isinstance(wish, Mapping) else {"sparsity": wish}
