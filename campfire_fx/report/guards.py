"""What the example decided, and a model therefore checks whenever it is called."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from campfire_fx.report.numbers import listed
from campfire_fx.report.style import STYLES

_MOST = 8


def guard_sentence(guards: Sequence[str], variants: Sequence[tuple[str, Sequence[str]]] = ()) -> list[Text]:
    """Return the sentences on what a model is good for, or nothing where it takes whatever the one given takes."""
    if variants:
        first = f"There are {len(variants)} variants, one for each way that the examples take; a call runs the first of"
        texts = [f"{first} them whose conditions hold. Other inputs raise an error."]
        texts += [f"For {told}: {listed(asks, _MOST) or 'any input'}." for told, asks in variants]
    else:
        checked = f"Decided by the example, and checked in every call: {listed(guards, _MOST)}."
        texts = [f"{checked} Other inputs raise an error."] if guards else []
    return [Text(text, style=STYLES["report.note"]) for text in texts]
