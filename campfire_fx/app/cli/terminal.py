"""What the commands share: how reports are shown, and how shapes and options are written on a command line."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from torch import Tensor

# Names may hold brackets and colons; rich would take them for styles and emoji.
console = Console(markup=False, emoji=False, highlight=False)
"""Reports and results."""
errors = Console(stderr=True, markup=False, emoji=False, highlight=False)
"""Errors and logs, so that results can be piped."""


def show(content: Any, on: Console = console) -> None:
    """Show a report or a sentence: with colours on a terminal, elsewhere as plain text without trailing spaces."""
    from campfire_fx.report.style import columns, plain  # slow to load

    if on.is_terminal:
        on.print(content)
    else:
        on.file.write(f"{content if isinstance(content, str) else plain(content, columns())}\n")
        on.file.flush()


def show_json(facts: Any) -> None:
    """Print facts as JSON on standard output, for other programs."""
    print(json.dumps(facts, indent=2))  # noqa: T201  rich would wrap it


def example_inputs(shapes: Sequence[str] | None) -> tuple[Tensor, ...] | None:
    """Return one random tensor per shape written as 1x3x224x224, or None where no shape is given."""
    import torch

    if not shapes:
        return None
    return tuple(torch.randn(_shape(text)) for text in shapes)


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise typer.BadParameter(f"{text!r} is not a shape. Write sizes with an x between them, as 1x3x224x224.")
    return tuple(int(size) for size in text.split("x"))


def model_options(assignments: Sequence[str] | None) -> dict[str, Any]:
    """Return the arguments written as name=value; values are Python literals, or else text."""
    result: dict[str, Any] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{assignment!r} is not name=value, as num_classes=10.")
        try:
            result[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            result[name] = value
    return result


def era_span(text: str | None) -> tuple[int, int] | None:
    """Return a pruning era written as START:END, in epochs counted from 0."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not an era. Write START:END in epochs, as 8:24.")
    return int(match[1]), int(match[2])


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers of an option, written with commas between them, decimal or as fractions."""
    try:
        return tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f"{text!r} of {option} is not a list of numbers. Write them as 0.05,0.1 or 2/255."
        ) from None


def epochs_listed(text: str | None) -> tuple[int, ...] | None:
    """Return epochs written as 30,60; "none" is no epoch."""
    if text is None:
        return None
    if text == "none":
        return ()
    if re.fullmatch(r"\d+(,\d+)*", text) is None:
        raise typer.BadParameter(f"{text!r} is not a list of epochs. Write them with commas, as 30,60, or none.")
    return tuple(sorted(int(epoch) for epoch in text.split(",")))
