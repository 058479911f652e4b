"""The regimes by name: one file per method."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity.granularity import CHANNEL, COLUMN, ELEMENT, FILTER, KERNEL
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.admm import admm, admm_in_turn
from campfire_fx.sparsity.regimes.campfire import block_fc, ck, combined, fine_fc, inter_epoch, window
from campfire_fx.sparsity.regimes.channel import channel, channel_combined
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
    "channel": channel,
    "channel-combined": channel_combined,
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
# What `sparsify` calls settings: parameters of the functions.
_SETTINGS = {"window_cap": "cap", "ck_scope": "scope"}
# What others call them: for the hint alone, one word for one idea.
_OTHERWISE = {
    "magnitude": "unstructured",
    "kernel": "ck",
    "kernels": "ck",
    "channels": "channel",
    "nm": "n:m",
    "swat": "swat-u",
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
    for setting in asked:
        if not _takes(make, setting):
            refuse_setting(setting, name)
    return make(**{_SETTINGS.get(setting, setting): value for setting, value in asked.items()})


def _takes(make: Callable[..., Regime], setting: str) -> bool:
    found = inspect.signature(make).parameters.get(_SETTINGS.get(setting, setting))
    return found is not None and (found.annotation == "Scope") == (setting == "ck_scope")


def refuse_setting(setting: str, regime: str) -> NoReturn:
    """Raise a RegimeError: a regime takes no such setting."""
    takers = [name for name, make in REGIMES.items() if _takes(make, setting)]
    raise RegimeError(f"{setting}: regime '{regime}' takes none. Use it with {' or '.join(map(repr, takers))} by name.")
