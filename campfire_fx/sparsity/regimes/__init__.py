"""The regimes by name: one file per method."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from campfire_fx.errors import RegimeError
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes.block_fc import block_fc
from campfire_fx.sparsity.regimes.ck import ck
from campfire_fx.sparsity.regimes.combined import combined
from campfire_fx.sparsity.regimes.filters import filters
from campfire_fx.sparsity.regimes.fine_fc import fine_fc
from campfire_fx.sparsity.regimes.inter_epoch import inter_epoch
from campfire_fx.sparsity.regimes.n_of_m import n_of_m
from campfire_fx.sparsity.regimes.unstructured import unstructured
from campfire_fx.sparsity.regimes.window import window

REGIMES: dict[str, Callable[[], Regime]] = {
    "window": window,
    "ck": ck,
    "combined": combined,
    "inter-epoch": inter_epoch,
    "fine-fc": fine_fc,
    "block-fc": block_fc,
    "filter": filters,
    "n:m": n_of_m,
    "unstructured": unstructured,
}


def regime_named(name: str) -> Regime:
    """Return the regime of a name, with the settings of its paper; "2:4" and the like are N:M regimes.

    Raises:
        RegimeError: no such regime; names the nearest.
    """
    if name in REGIMES:
        return REGIMES[name]()
    if ratio := re.fullmatch(r"(\d+):(\d+)", name):
        return n_of_m(int(ratio[1]), int(ratio[2]))
    near = difflib.get_close_matches(name.lower(), REGIMES, n=1, cutoff=0.0)[0]
    raise RegimeError(
        f"regime '{name}': there is none of that name. Did you mean '{near}'? The regimes are {', '.join(REGIMES)}."
    )


__all__ = [
    "REGIMES",
    "block_fc",
    "ck",
    "combined",
    "filters",
    "fine_fc",
    "inter_epoch",
    "n_of_m",
    "regime_named",
    "unstructured",
    "window",
]
