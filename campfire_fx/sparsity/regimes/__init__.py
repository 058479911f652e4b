"""The regimes by name: one file per method."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.sparsity.entry import FAMILIES, RegimeEntry, settings_of
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes import (
    admm,
    by_score,
    campfire,
    channel,
    chase,
    deep_compression,
    deepr,
    dsr,
    gradual_magnitude,
    greg,
    greg_2,
    group_lasso,
    grouped,
    lottery_ticket,
    magnitude,
    network_slimming,
    pfa,
    rigl,
    snip,
    sr_ste,
    srigl,
    static_random,
    swat,
    thinet,
)
from campfire_fx.sparsity.regimes import set as set_
from campfire_fx.sparsity.regimes.magnitude import n_of_m
from campfire_fx.sparsity.scope import WITHIN_CHANNEL, WITHIN_LAYER

_FILES = (
    campfire, magnitude, gradual_magnitude, deep_compression, channel, by_score, thinet, pfa, network_slimming,
    group_lasso, greg, greg_2, admm, swat, rigl, srigl, set_, dsr, deepr, chase, static_random, snip, lottery_ticket,
    sr_ste, grouped,
)  # fmt: skip
ENTRIES: dict[str, RegimeEntry] = {entry.name: entry for file in _FILES for entry in file.ENTRIES}
"""The regimes by name: one record each, in the file that defines it."""

REGIMES: dict[str, Callable[..., Regime]] = {name: entry.make for name, entry in ENTRIES.items()}

_CK_SCOPES = {"layer": WITHIN_LAYER, "channel": WITHIN_CHANNEL}
# What others call them: for the hint alone, one word for one idea.
_OTHERWISE = {
    "magnitude": "unstructured",
    "kernel": "ck",
    "kernels": "ck",
    "channels": "channel",
    "groups": "grouped",
    "nm": "n:m",
    "4x1": "1x4",
    "1xn": "1x4",
    "swat": "swat-u",
    "lth": "lottery-ticket",
    "imp": "lottery-ticket",
    "global": "global-magnitude",
    "zhu-gupta": "gradual-magnitude",
}


def regime_named(name: str, **given: Any) -> Regime:
    """Return the regime of a name, with the settings of its paper; "2:4" and the like are N:M regimes.

    Args:
        name: one of `REGIMES`, or "N:M" in numbers.
        given: settings as `sparsify` calls them; None: the regime's own.

    Raises:
        RegimeError: no such regime, and names the nearest; or it takes no such setting.
    """
    if (scope := given.get("ck_scope", "layer")) not in _CK_SCOPES:
        raise RegimeError(f"ck_scope: '{scope}' is not known. Use {' or '.join(map(repr, _CK_SCOPES))}.")
    asked = {setting: value for setting, value in given.items() if is_asked(setting, value)}
    if "ck_scope" in asked:
        asked["ck_scope"] = _CK_SCOPES[scope]
    if ratio := re.fullmatch(r"(\d+):(\d+)", name):
        return _composed(name, partial(n_of_m, int(ratio[1]), int(ratio[2])), asked)
    if name in REGIMES:
        return _composed(name, REGIMES[name], asked)
    spoken = name.lower().replace("_", "-")
    near = _OTHERWISE.get(spoken) or difflib.get_close_matches(spoken, REGIMES, n=1, cutoff=0.0)[0]
    raise RegimeError(f"unknown regime '{name}'. Did you mean '{near}'? The regimes are {', '.join(REGIMES)}.")


def is_asked(setting: str, value: object) -> bool:
    """Say whether a setting differs from what stands for none."""
    return value is not None and (setting, value) != ("ck_scope", "layer")


def _composed(name: str, make: Callable[..., Regime], asked: Mapping[str, object]) -> Regime:
    known = settings_of(make)
    for setting in asked:
        if setting not in known:
            refuse_setting(setting, name)
    return make(**{known[setting].name: value for setting, value in asked.items()})


def refuse_setting(setting: str, regime: str) -> NoReturn:
    """Raise a RegimeError: a regime takes no such setting."""
    takers = [name for name, make in REGIMES.items() if setting in settings_of(make)]
    raise RegimeError(f"{setting}: regime '{regime}' takes none. Use it with {' or '.join(map(repr, takers))} by name.")


_STRONGER = {"target": "a target", "strength": "a larger strength", "threshold": "a larger threshold"}


def nothing_pruned(regime: str) -> str:
    """Say that a training with a regime has ended without a zero, and which of its settings prune more."""
    known = settings_of(REGIMES[regime]) if regime in REGIMES else {}
    own = {setting: known[setting].default for setting in _STRONGER if setting in known}
    stronger = [
        _STRONGER[setting] + (f" (it has {value:g})" if isinstance(value, float) else "")
        for setting, value in own.items()
    ]
    return f"regime '{regime}' has pruned nothing. Give {' or '.join(stronger or ['another sparsity or regime'])}."


def find_regimes(*words: str, family: str | None = None) -> tuple[RegimeEntry, ...]:
    """Return the entries, by family, in which every word stands somewhere, in any case of letters; no word: all.

    Args:
        words: parts of a name, of what a regime does, needs and gains, or of its source, as "kernel" or "2001.03253".
        family: one of `FAMILIES`.

    Raises:
        RegimeError: there is no such family.
    """
    if family is not None and family not in FAMILIES:
        raise RegimeError(
            f"family '{family}': there is none.{did_you_mean(family, FAMILIES)} There are {', '.join(FAMILIES)}."
        )
    order = list(FAMILIES)
    found = [
        entry
        for entry in ENTRIES.values()
        if family in (None, entry.family) and all(word.lower() in entry.text for word in words)
    ]
    return tuple(sorted(found, key=lambda entry: order.index(entry.family)))
