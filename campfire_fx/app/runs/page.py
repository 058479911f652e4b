"""A page of HTML that stands alone: text, tables and pictures in one file, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: #222; background: #fff;
       max-width: 832px; margin: 0 auto; padding: 16px; }
h1 { font-size: 28px; line-height: 1.2; margin: 16px 0 4px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 8px; border-top: 1px solid #d9d9d9; }
p { margin: 8px 0; } .note { color: #555; font-size: 14px; }
nav { font-size: 14px; margin: 12px 0; } nav a { margin-right: 14px; white-space: nowrap; } a { color: #0063a0; }
figure { margin: 16px 0; } img { display: block; width: 100%; max-width: 800px; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; margin: 8px 0; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
th { border-bottom: 2px solid #8c8c8c; } td { font-variant-numeric: tabular-nums; white-space: nowrap; }
th.text, td.text { text-align: left; white-space: normal; }
footer { margin: 48px 0 16px; color: #555; font-size: 13px; border-top: 1px solid #d9d9d9; padding-top: 8px; }
@media print { h2, figure { break-inside: avoid; } nav { display: none; } }
"""


class Page:
    """A page that is written from top to bottom; all text given is shown as it is, never read as HTML."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._sections: list[tuple[str, str]] = []
        self._top: list[str] = []
        self._body: list[str] = []

    def text(self, sentence: str, *, note: bool = False) -> None:
        """Add a paragraph; a note is smaller."""
        self._add(f'<p class="note">{escape(sentence)}</p>' if note else f"<p>{escape(sentence)}</p>")

    def section(self, title: str) -> None:
        """Begin a section, which the links at the top lead to."""
        anchor = f"part-{len(self._sections) + 1}"
        self._sections.append((anchor, title))
        self._add(f'<h2 id="{anchor}">{escape(title)}</h2>')

    def picture(self, png: bytes, alternative: str) -> None:
        """Add a PNG, held in the page itself, with the text for those who cannot see it."""
        data = base64.b64encode(png).decode("ascii")
        self._add(f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alternative)}"></figure>')

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,)) -> None:
        """Add a table; the columns with these indices hold text and are aligned to the left, others hold numbers."""
        marks = ['class="text"' if i in text else "" for i in range(len(columns))]
        head = "".join(f"<th {mark}>{escape(name)}</th>" for mark, name in zip(marks, columns, strict=True))
        body = "".join(
            f"<tr>{''.join(f'<td {mark}>{escape(cell)}</td>' for mark, cell in zip(marks, row, strict=True))}</tr>\n"
            for row in rows
        )
        table = f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        self._add(table.replace("<th >", "<th>").replace("<td >", "<td>"))

    def html(self, footer: str = "") -> str:
        """Return the whole page."""
        links = "".join(f'<a href="#{anchor}">{escape(title)}</a> ' for anchor, title in self._sections)
        end = f"<footer>{escape(footer)}</footer>" if footer else ""
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<link rel="icon" href="data:,">\n<title>{escape(self._title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
            f"<body>\n<h1>{escape(self._title)}</h1>\n{''.join(self._top)}<nav>{links}</nav>\n"
            f"{''.join(self._body)}{end}\n</body>\n</html>\n"
        )

    def _add(self, html: str) -> None:
        """Put HTML where the page has come to: above the links until the first section begins."""
        (self._body if self._sections else self._top).append(f"{html}\n")
