"""Long lines of generated code, broken at their brackets as a formatter would."""

from __future__ import annotations

import re

WIDTH = 100

_OPEN = {"(": ")", "[": "]", "{": "}"}


def wrapped(line: str, indent: int = 0) -> list[str]:
    """Return the line as lines of at most `WIDTH` columns where its brackets allow that.

    The last bracket pair at the top level is opened. Its items go on one line where they are plain values,
    and on a line each where layers are among them or one line is too short.
    """
    margin = " " * indent
    pair = _last_pair(line) if len(margin) + len(line) > WIDTH else None
    if pair is None:
        return [margin + piece for piece in _shortened(line, WIDTH - len(margin))]
    start, end = pair
    lines = [margin + line[: start + 1]]
    inner = line[start + 1 : end]
    if len(margin) + 4 + len(inner) <= WIDTH and "nn." not in inner:
        return [*lines, f"{margin}    {inner}", margin + line[end:]]
    items = _items(inner)
    for position, item in enumerate(items, 1):
        comma = "," if position < len(items) or inner.endswith(",") or _takes_comma(line, start) else ""
        lines += wrapped(item + comma, indent + 4)
    return [*lines, margin + line[end:]]


def _shortened(line: str, width: int) -> list[str]:
    """Return a string that stands alone as shorter ones side by side, which Python joins; else the line as it is."""
    text, comma = line.removesuffix(","), line[len(line.removesuffix(",")) :]
    if len(line) <= width or text[:1] not in "\"'" or text[:1] != text[-1:] or "\\" in text or text[0] in text[1:-1]:
        return [line]
    quote, lines = text[0], [""]
    for word in re.findall(r"\S*\s*", text[1:-1]):
        if len(lines[-1]) + len(word) + 3 > width:
            lines.append("")
        lines[-1] += word
    return [f"{quote}{part}{quote}" for part in lines[:-1]] + [f"{quote}{lines[-1]}{quote}{comma}"]


def _takes_comma(line: str, start: int) -> bool:
    """Say whether a comma may follow the last item: in a call or a list, not in an index or in parentheses."""
    after_value = start > 0 and (line[start - 1].isalnum() or line[start - 1] in "_)]")
    if line[start] == "[":
        return not after_value
    return line[start] == "{" or after_value


def _last_pair(line: str) -> tuple[int, int] | None:
    """Return the positions of the last top-level bracket pair that holds something."""
    found, start = None, 0
    for position, before, after in _depths(line):
        if before == 0 and after == 1:
            start = position
        elif before == 1 and after == 0 and position > start + 1:
            found = (start, position)
    return found


def _items(text: str) -> list[str]:
    """Split at the commas that are in no bracket and no string."""
    cuts = [position for position, before, after in _depths(text) if before == after == 0 and text[position] == ","]
    starts = [0, *(cut + 1 for cut in cuts)]
    items = [text[start:end].strip() for start, end in zip(starts, [*cuts, len(text)], strict=True)]
    return [item for item in items if item]


def _depths(text: str) -> list[tuple[int, int, int]]:
    """Return (position, depth before, depth after) of every character outside strings."""
    found: list[tuple[int, int, int]] = []
    depth, quote, escaped = 0, "", False
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
            continue
        after = depth + (character in _OPEN) - (character in _OPEN.values())
        found.append((position, depth, after))
        depth, quote = after, character if character in "\"'" else ""
    return found
