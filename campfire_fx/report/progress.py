"""A progress bar for work that takes a while: shown on a terminal once two seconds have passed, else silent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

DELAY_SECONDS = 2.0


@contextmanager
def progress(title: str, total: int | None = None, *, console: Console | None = None) -> Iterator[Callable[..., None]]:
    """Show how far some work has come, on standard error.

    Yields a function that is called after each step: `advance(1)`, or `advance(0, "what is done now")`. The bar comes
    up by itself, so work of one long step, which calls it never, is seen too.

    Args:
        title: what is being done.
        total: how many steps there are, or None if that is not known.
        console: where to show it; default: standard error.
    """
    console = console or Console(stderr=True)
    columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=None)]
    if total is not None:
        columns += [MofNCompleteColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(title, total=total)
    timer = threading.Timer(DELAY_SECONDS, bar.start)
    timer.daemon = True

    def advance(steps: int = 1, now: str | None = None) -> None:
        bar.update(task, advance=steps, description=title if now is None else f"{title}: {now}")

    if not console.is_terminal:
        yield advance
        return
    timer.start()
    try:
        yield advance
    finally:
        timer.cancel()
        timer.join()  # the bar may be coming up this moment
        if bar.live.is_started:
            bar.stop()
