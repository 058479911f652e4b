"""What guards say to whose input they refuse: written, recognised, and read again."""

from __future__ import annotations

import re

ARGUMENT = "Argument"
"""How the message of a guard on arguments themselves begins."""

_REMEDY = "Trace the model that it came from with an example like this input."
_REFUSAL = re.compile(
    r"(?P<what>.+) at (?P<where>[^:]+(?::\d+)?): this model was traced with (?P<text>.+), and is right for such inputs "
    rf"alone\. {re.escape(_REMEDY)}",
    re.DOTALL,
)


def refusal(what: str, where: str, text: str) -> str:
    """Return the message of a guard: `what` was asked, in which line, and what must hold."""
    return f"{what} at {where}: this model was traced with {text}, and is right for such inputs alone. {_REMEDY}"


def refusal_of_all(name: str, told: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """Return the message for an input that fits none of the examples: what each is like and asks for."""
    examples = "; ".join(f"{example} asks for {' and '.join(asks) or 'nothing'}" for example, asks in told)
    return f"Input at {name}: it is like none of the examples that this model was traced with: {examples}. {_REMEDY}"


def is_refusal(error: BaseException) -> bool:
    """Return whether an error is a guard's."""
    return isinstance(error, AssertionError) and is_guards(str(error))


def is_guards(message: object) -> bool:
    """Return whether a message is a guard's."""
    return isinstance(message, str) and _REMEDY in message


def parts_of(message: str) -> tuple[str, str] | None:
    """Return the line that asked and what must hold; None where the message is no guard's."""
    found = _REFUSAL.fullmatch(message)
    return None if found is None else (found["where"], found["text"])
