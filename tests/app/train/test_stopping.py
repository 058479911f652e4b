"""Signals: they wait where somebody looks soon, else they end the run at once; handlers are put back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from campfire_fx.app.train.stopping import Stop, Stopped, stopping


def send() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_ends_the_run_at_once() -> None:
    with stopping(), pytest.raises(Stopped, match=r"^Stopped by SIGTERM. Go on with --resume auto.$"):
        send()


def test_a_signal_waits_and_a_second_one_does_not() -> None:
    with stopping() as stop:
        with stop.later():
            send()
            assert stop.number == signal.SIGTERM
            with pytest.raises(Stopped):
                send()
        with pytest.raises(Stopped):
            stop.check()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_get_no_signals() -> None:
    found: list[Stop] = []

    def run() -> None:
        with stopping() as stop:
            found.append(stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found[0].number == 0
