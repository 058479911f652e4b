"""Write the tables of regimes in the documents from their entries (`campfire_fx.sparsity.find_regimes`).

    python tools/regime_pages.py            # after an entry has changed; a test says when the documents are behind

Each table stands between two marks: `<!-- NAME: made by tools/regime_pages.py -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from table_7 import TABLE_7

from campfire_fx.sparsity import find_regimes
from campfire_fx.sparsity.entry import FAMILIES, GAINS

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Write the pages that are behind."""
    for path, text in pages().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: renewed")
    return 0


def pages() -> dict[Path, str]:
    """Return each page as it should be."""
    found = {}
    for name, tables in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for table, make in tables.items():
            text = placed(text, table, make())
        found[ROOT / name] = text
    return found


def placed(text: str, name: str, table: str) -> str:
    """Put a table between its marks.

    Raises:
        SystemExit: the marks are not there.
    """
    begin, end = f"<!-- {name}: made by tools/regime_pages.py -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"regime_pages: the marks of '{name}' are missing. Write {begin} and {end}.")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end, 1)[1]}"


def every_regime() -> str:
    """Return a row for each regime."""
    rows = [
        (f"`{one.name}`", one.does, one.granularity, ", ".join(one.needs), one.gains, linked(one.source))
        for one in find_regimes()
    ]
    return markdown(("name", "what it does", "dies together", "needs", "gains", "source"), rows)


def every_gain() -> str:
    """Return what the column of gains means."""
    used = {one.gains for one in find_regimes()}
    return "\n".join(f"- *{name}*: {GAINS[name]}." for name in GAINS if name in used)


def every_family() -> str:
    """Return a row for each family, with its regimes."""
    rows = [
        (name, about, ", ".join(f"`{one.name}`" for one in find_regimes(family=name)))
        for name, about in FAMILIES.items()
        if find_regimes(family=name)
    ]
    return markdown(("family", "what its regimes have in common", "regimes"), rows)


def table_7() -> str:
    """Return Campfire's Table 7 with what is here of each method: the regimes whose source has its arXiv number."""
    rows = []
    for row in TABLE_7:
        here = [one.name for one in find_regimes() if set(one.arxiv) & set(row.arxiv) or one.name in row.also]
        said = ", ".join(f"`{name}`" for name in here) if here else f"no: {row.lacks}"
        numbers = f" ({', '.join(map(link, row.arxiv))})" if row.arxiv else ""
        rows.append((row.method + numbers, *row.columns, said))
    head = ("method", "focus", "regularisation", "era of pruning", "strict budget", "granularity", "here")
    return markdown(head, rows)


def linked(source: str) -> str:
    """Return a source with links to arXiv."""
    return re.sub(r"(?:arXiv )?\b(\d{4}\.\d{4,5})\b", lambda found: link(found[1]), source)


def link(number: str) -> str:
    """Return a link to a paper of arXiv."""
    return f"[{number}](https://arxiv.org/abs/{number})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |").replace("|  |", "| |") for line in lines)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/regimes.md": {"regimes": every_regime, "gains": every_gain},
    "docs/methods/README.md": {"families": every_family, "table 7": table_7},
}

if __name__ == "__main__":
    sys.exit(main())
