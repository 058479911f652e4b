"""Characters for streams that are no UTF-8, as a pipe on Windows: plain ones stand for lines and signs."""

from __future__ import annotations

import codecs
import sys
import unicodedata

PLAIN = "campfire-fx-plain"
"""An error handler for encoders: what cannot be encoded is written in plain characters, letters as escapes."""

_SIGNS = {
    "\u2026": "...", "\u00b1": "+-", "\u00d7": "x", "\u00b7": ".", "\u2022": "*", "\u2212": "-", "\u2248": "~",
    "\u2264": "<=", "\u2265": ">=", "\u2192": "->", "\u2190": "<-", "\u2194": "<->", "\u2191": "^", "\u2193": "v",
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'",
    "\u201c": '"', "\u201d": '"', "\u2713": "ok", "\u2714": "ok", "\u2717": "x", "\u2718": "x", "\u00a0": " ",
    "\u2009": " ", "\u202f": " ", "\u00b5": "u", "\u03bc": "u", "\u0394": "D", "\u00b2": "2", "\u00b3": "3",
}  # fmt: skip
_WAYS = ("HORIZONTAL", "LEFT", "RIGHT"), ("VERTICAL", "UP", "DOWN")


def plain_character(character: str) -> str:
    """Return what stands for a character in ASCII; letters are escaped, since they may be those of a path."""
    if character in _SIGNS:
        return _SIGNS[character]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        across, down = (any(way in name for way in ways) for ways in _WAYS)
        return "+" if across and down else "|" if down else "-"
    if "BLOCK" in name or name.startswith("BRAILLE"):
        return "#"
    return character.encode("ascii", "backslashreplace").decode("ascii")


def legible(text: str) -> str:
    """Return a text that standard output can print: as it is, or with plain characters for what it has no code for."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, PLAIN).decode(encoding)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(plain_character, error.object[error.start : error.end])), error.end


codecs.register_error(PLAIN, _plain)
