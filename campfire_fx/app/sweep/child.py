"""A training in a process of its own, which ends in order when the sweep that started it is gone."""

from __future__ import annotations

import os
import signal
import threading


def main() -> None:
    """Run `campfire-fx` with this process's arguments; when standard input ends, stop as on SIGTERM, and save."""
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    from campfire_fx.app.cli import main as command  # takes seconds; the sweep may go in them

    command()


def _end_with_the_sweep() -> None:
    os.read(0, 1)  # standard input: the sweep holds the other end, and never writes
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
