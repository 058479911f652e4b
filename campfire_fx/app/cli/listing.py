"""`campfire-fx regimes`: the regimes as a list that can be searched, and one of them in full."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from campfire_fx.app.cli.options import AsJson
from campfire_fx.app.cli.terminal import show, show_json
from campfire_fx.base.errors import RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.report.numbers import plural
from campfire_fx.report.style import STYLES
from campfire_fx.report.table import Column, FittedTable
from campfire_fx.sparsity import RegimeEntry, find_regimes, regime_named
from campfire_fx.sparsity.entry import FAMILIES, GAINS, NEEDS

_COLUMNS = (
    Column("name", right=False),
    Column("what it does", right=False, wraps=True),
    Column("family", 3, right=False),
    Column("needs", 2, right=False),
    Column("gains", 1, right=False),
)


def regimes_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME | WORD...]",
            help="A regime's name, to see all about it; or words to search for.",
            show_default="all",
        ),
    ] = None,
    family: Annotated[str | None, typer.Option(help=f"One of {', '.join(FAMILIES)}.", show_default="all")] = None,
    as_json: AsJson = False,
) -> None:
    """List and search the pruning methods (regimes): what each does, needs and gains, and its source.

    Words are looked up in names, descriptions, families, settings and sources.

    **Examples**

        campfire-fx regimes
        campfire-fx regimes ck
        campfire-fx regimes kernel ADMM
        campfire-fx regimes --family dynamic --json
    """
    words = words or []
    name = words[0] if len(words) == 1 and family is None else ""
    if (one := _named(name)) is not None:
        show_json(facts(one)) if as_json else show(_in_full(one))
        return
    found = find_regimes(*words, family=family)
    if not found:
        known = [entry.name for entry in find_regimes()]
        asked = f"'{' '.join(words)}'" + (f" in family '{family}'" if family else "")
        hint = did_you_mean(words[0], known) if len(words) == 1 else " Give fewer words."
        raise RegimeError(f"regimes: none matches {asked}.{hint} `campfire-fx regimes` lists all.")
    show_json([facts(entry) for entry in found]) if as_json else show(_listed(found))


def _named(name: str) -> RegimeEntry | None:
    for entry in find_regimes():
        if entry.example and re.fullmatch(r"\d+:\d+", name):
            return replace(entry, example=name)
        if entry.name == name:
            return entry
    return None


def facts(entry: RegimeEntry) -> dict[str, Any]:
    """Return all that is known of a regime, for other programs."""
    regime = regime_named(entry.example or entry.name)
    layers = {"convolutions": regime.spatial, "1x1 convolutions": regime.pointwise, "linear layers": regime.linear}
    return {
        "name": entry.name,
        "does": entry.does,
        "family": entry.family,
        "granularity": entry.granularity,
        "prunes": [kind for kind, rule in layers.items() if rule is not None],
        "sparse": _sparse_when([regime.schedule(0, 10, 3.0).fraction(epoch) for epoch in (0, 9)]),
        "weights_return": regime.method.weights_return,
        "needs": list(entry.needs),
        "gains": entry.gains,
        "settings": {name: _plain(default) for name, default in entry.settings.items()},
        "source": entry.source,
        "arxiv": list(entry.arxiv),
    }


def _sparse_when(fractions: Sequence[float]) -> str:
    """Say when it becomes sparse, by what is due in the first epoch of an era and in the last one."""
    first, last = fractions
    return "from the first step" if first else "gradually over the era" if last else "when the era ends"


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _listed(found: Sequence[RegimeEntry]) -> RenderableType:
    rows = [(one.name, _unquoted(one.does), one.family, ", ".join(one.needs), one.gains) for one in found]
    gains = {one.gains: GAINS[one.gains] for one in found}
    told = "\n".join(f"{name}: {_unquoted(meaning)}." for name, meaning in gains.items())
    more = "campfire-fx regimes NAME: settings, source, and all else about one."
    return Group(
        FittedTable(plural(len(found), "regime"), _COLUMNS, rows),
        Text(f"Gains\n{told}\n\n{more}", style=STYLES["report.note"]),
    )


def _in_full(entry: RegimeEntry) -> RenderableType:
    known = facts(entry)
    name = entry.example or entry.name
    needs = "; ".join(f"{need}: {NEEDS[need]}" for need in entry.needs)
    lines = {
        "does": f"{_unquoted(entry.does)}.",
        "family": f"{entry.family}: {FAMILIES[entry.family]}",
        "dies together": entry.granularity,
        "prunes": ", ".join(known["prunes"]),
        "sparse": known["sparse"] + (", and weights may come back" if known["weights_return"] else ""),
        "needs": needs or "only training in epochs",
        "gains": f"{entry.gains}: {_unquoted(GAINS[entry.gains])}",
        "settings": _settings(known["settings"]),
        "source": re.sub(r"(?:arXiv )?\b(\d{4}\.\d{4,5})\b", r"https://arxiv.org/abs/\1", entry.source),
        "command": f"campfire-fx train --regime {name}" + ("" if entry.example else " --sparsity 0.7"),
        "Python": f'campfire_fx.sparsify(model, "{name}"' + (")" if entry.example else ", sparsity=0.7)"),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style=STYLES["report.header"])
    table.add_column(overflow="fold")
    for head, text in lines.items():
        table.add_row(head, Text(text))
    return Group(Text(entry.name, style=STYLES["report.title"]), Padding(table, (0, 0, 0, 2)))


def _settings(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "none of its own"


def _unquoted(text: str) -> str:
    return text.replace("`", "")
