"""The documentation's pages as the tests read them: code, commands, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md"  # names what was, too
)
_FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Snippet:
    """A block of code on a page.

    Attributes:
        code: its text.
        line: of the page, on which the code begins.
        reason: why no test runs it, as the comment `<!-- not run: ... -->` before it says; None where one does.
    """

    code: str
    line: int
    reason: str | None


def text(page: str) -> str:
    """The text of a page, by its path from the repository's root."""
    return (ROOT / page).read_text(encoding="utf-8")


def snippets(page: str, kind: str = "python") -> list[Snippet]:
    """The blocks of one kind on a page, in order."""
    found = text(page)
    return [
        Snippet(match["code"], found.count("\n", 0, match.start("code")) + 1, match["reason"])
        for match in _FENCE.finditer(found)
        if match["kind"] == kind
    ]


def run(page: str, names: dict[str, Any], smaller: Mapping[str, str] | None = None) -> None:
    """Run the Python of a page as a reader would: block after block, each with what those before it made.

    Errors name the page and its line. `names` are what the reader has already (a model, a loader), and get what the
    code makes. `smaller` has sizes of the page, and what stands in for them, so that less is computed.
    """
    names.setdefault("__name__", "page")
    for snippet in snippets(page):
        if snippet.reason is None:
            moved = "\n" * (snippet.line - 1) + snippet.code
            for size, less in (smaller or {}).items():
                moved = moved.replace(size, less)
            exec(compile(moved, page, "exec", dont_inherit=True), names)


def commands(page: str) -> Iterator[list[str]]:
    """The words of each line of a shell block, without comments; lines that go on with a backslash are one."""
    for snippet in snippets(page, "bash"):
        for line in snippet.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def links(page: str) -> Iterator[str]:
    """The targets of a page's links and pictures that are no web addresses."""
    plain = _FENCE.sub("", text(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if not re.match(r"[a-z]+:", target):
            yield target
