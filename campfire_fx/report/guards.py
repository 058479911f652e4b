"""What the example decided, and a model therefore checks whenever it is called."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from campfire_fx.report.style import STYLES

_MOST = 8


def guard_sentence(guards: Sequence[str]) -> list[Text]:
    """Return the sentence on what a model is good for, or nothing where it takes whatever the one given takes."""
    if not guards:
        return []
    shown = ", ".join(guards[:_MOST])
    more = f" and {len(guards) - _MOST} more" if len(guards) > _MOST else ""
    return [
        Text(
            f"Decided by the example, and checked in every call: {shown}{more}. Other inputs raise an error.",
            style=STYLES["report.note"],
        )
    ]
