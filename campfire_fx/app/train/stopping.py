"""SIGTERM and SIGINT: in training the step in hand is finished and saved first; elsewhere the run ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from campfire_fx.base.errors import CampfireError


class Stopped(CampfireError):
    """A signal ended the run. `exit_code` is 128 and the signal's number, as a shell has it: 143 for SIGTERM."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number

    @property
    def exit_code(self) -> int:
        """Exit code of the process."""
        return 128 + self.number


class Stop:
    """What a signal has asked for.

    Attributes:
        number: of the signal that came while it had to wait; 0: none.
        waits: whether a signal has to wait, since somebody looks at `number` soon.
    """

    def __init__(self) -> None:
        self.number = 0
        self.waits = False

    @contextmanager
    def later(self) -> Iterator[None]:
        """Let signals wait while the block runs."""
        before, self.waits = self.waits, True
        try:
            yield
        finally:
            self.waits = before

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self.number:
            raise Stopped(self.number, self.sentence())

    def sentence(self, after: str = "") -> str:
        """Say what ended the run, what was saved, and how to go on."""
        return f"Stopped by {signal.Signals(self.number).name}{after}. Go on with --resume auto."

    def heard(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal. A second one is not waited for."""
        again, self.number = bool(self.number), number
        if again or not self.waits:
            self.check()


@contextmanager
def stopping() -> Iterator[Stop]:
    """Take SIGTERM and SIGINT over while the block runs; outside of the main thread, where none come, do nothing."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    owner = os.getpid()

    def heard(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:  # reading processes inherit this; whom they work for ends them
            stop.heard(number, frame)

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
