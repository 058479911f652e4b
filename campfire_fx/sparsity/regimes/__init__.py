"""The regimes by name: one file per method."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.granularity import CHANNEL, COLUMN, ELEMENT, FILTER, KERNEL
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.admm import admm, admm_in_turn
from campfire_fx.sparsity.regimes.campfire import block_fc, ck, combined, fine_fc, inter_epoch, window
from campfire_fx.sparsity.regimes.magnitude import filters, n_of_m, unstructured
from campfire_fx.sparsity.regimes.rigl import rigl
from campfire_fx.sparsity.regimes.set import evolutionary
from campfire_fx.sparsity.regimes.swat import swat_erk, swat_m, swat_structured, swat_u
from campfire_fx.sparsity.scope import WITHIN_CHANNEL, WITHIN_LAYER

REGIMES: dict[str, Callable[..., Regime]] = {
    "window": window,
    "ck": ck,
    "combined": combined,
    "inter-epoch": inter_epoch,
    "fine-fc": fine_fc,
    "block-fc": block_fc,
    "filter": filters,
    "n:m": n_of_m,
    "unstructured": unstructured,
    "swat-u": swat_u,
    "swat-erk": swat_erk,
    "swat-m": swat_m,
    "swat-structured": swat_structured,
    "rigl": rigl,
    "set": evolutionary,
    "admm-filter": partial(admm, FILTER),
    "admm-channel": partial(admm, CHANNEL),
    "admm-column": partial(admm, COLUMN),
    "admm-kernel": partial(admm, KERNEL),
    "admm-unstructured": partial(admm, ELEMENT),
    "admm-column-filter": partial(admm_in_turn, COLUMN, FILTER),
}

_CK_SCOPES = {"layer": WITHIN_LAYER, "channel": WITHIN_CHANNEL}
# Parameters of the functions: what `sparsify` calls them.
_SETTINGS = {"cap": "window_cap", "scope": "ck_scope", "period": "period", "rho": "rho"}
# What others call them: for the hint alone, one word for one idea.
_OTHERWISE = {
    "magnitude": "unstructured",
    "kernel": "ck",
    "kernels": "ck",
    "channel": "filter",
    "nm": "n:m",
    "swat": "swat-u",
}


def regime_named(
    name: str,
    *,
    window_cap: int | None = None,
    ck_scope: str = "layer",
    period: int | None = None,
    rho: float | None = None,
) -> Regime:
    """Return the regime of a name, with the settings of its paper; "2:4" and the like are N:M regimes.

    Args:
        name: one of `REGIMES`, or "N:M" in numbers.
        window_cap: the most non-zeros a kernel may keep, for the regimes that close windows.
        ck_scope: "layer" or "channel": what kernels are ranked in, for the regimes that rank them.
        period: steps between two computations of a threshold, for the regimes with dense weights; between two
            exchanges of weights, for those that drop and grow.
        rho: of the penalty, for the regimes by ADMM.

    Raises:
        RegimeError: no such regime, and names the nearest; or it takes no such setting.
    """
    settings: dict[str, object] = {}
    if window_cap is not None:
        settings["cap"] = window_cap
    if ck_scope not in _CK_SCOPES:
        raise RegimeError(f"ck_scope: '{ck_scope}' is not known. Use {' or '.join(map(repr, _CK_SCOPES))}.")
    if ck_scope != "layer":
        settings["scope"] = _CK_SCOPES[ck_scope]
    settings |= {name: value for name, value in (("period", period), ("rho", rho)) if value is not None}
    if ratio := re.fullmatch(r"(\d+):(\d+)", name):
        return _composed(name, partial(n_of_m, int(ratio[1]), int(ratio[2])), settings)
    if name in REGIMES:
        return _composed(name, REGIMES[name], settings)
    spoken = name.lower().replace("_", "-")
    near = _OTHERWISE.get(spoken) or difflib.get_close_matches(spoken, REGIMES, n=1, cutoff=0.0)[0]
    raise RegimeError(f"unknown regime '{name}'. Did you mean '{near}'? The regimes are {', '.join(REGIMES)}.")


def _composed(name: str, make: Callable[..., Regime], settings: dict[str, object]) -> Regime:
    for setting in settings:
        if setting not in inspect.signature(make).parameters:
            refuse_setting(_SETTINGS[setting], name)
    return make(**settings)


def refuse_setting(setting: str, regime: str) -> NoReturn:
    """Raise a RegimeError: a regime takes no such setting."""
    key = next(key for key, called in _SETTINGS.items() if called == setting)
    takers = [name for name, make in REGIMES.items() if key in inspect.signature(make).parameters]
    raise RegimeError(f"{setting}: regime '{regime}' takes none. Use it with {' or '.join(map(repr, takers))} by name.")
