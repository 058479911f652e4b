"""A line for each epoch: what it shows of which training, that it fits, and what is more on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from campfire_fx.app.cli.epoch_lines import EpochLines
from campfire_fx.app.train.observers import Course, Epoch

DENSE = (Epoch(0, 2.0, 0.25, 4.0, 0.1), Epoch(1, 1.5, 0.5, 2.0, 0.05), Epoch(2, 1.25, 0.75, 2.0, 0.0123456))
COURSE = Course("dense", 12, 10)


def lines(history: tuple[Epoch, ...], course: Course = COURSE, **console) -> list[str]:
    target = io.StringIO()
    watch = EpochLines(Console(file=target, markup=False, emoji=False, highlight=False, **console))
    with watch.watching(course, ()):
        for count in range(1, len(history) + 1):
            for step in range(10 * count - 9, 10 * count + 1):
                watch.step(step, 1.0, 0.1)
            watch.epoch(10 * count, history[:count])
    return target.getvalue().splitlines()


def test_a_pipe_gets_a_header_and_a_plain_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert lines(DENSE) == [
        "",
        "network  epoch     loss  accuracy  learning rate  time left",
        "dense     1/12   2.0000   25.00 %            0.1    0:00:44",
        "dense     2/12   1.5000   50.00 %           0.05    0:00:30",
        "dense     3/12   1.2500   75.00 %         0.0123    0:00:18",
    ]


def test_sparsity_and_its_target_are_shown_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    sparse = (replace(DENSE[0], target=0.5, sparsity=0.5125, valid5=0.99),)
    _, header, line = lines(sparse, replace(COURSE, network="slim from scratch"))
    assert header.split()[3:] == "accuracy top-5 learning rate sparsity target time left".split()
    assert line.endswith("25.00 %   99.00 %            0.1    51.2 %    50.0 %    0:00:44")
    assert line.startswith("slim from scratch   1/12") and len(line) == len(header)


def test_where_channels_die_the_share_of_macs_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    channels = (replace(DENSE[0], target=0.5, sparsity=0.5, macs_left=0.625),)
    _, header, line = lines(channels)
    assert "MACs left" in header and "62.5 %" in line and "sparsity" not in header and "target" not in header


@pytest.mark.parametrize("width", [40, 60, 75, 90])
def test_a_narrow_terminal_loses_columns_and_no_digit(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _, header, line = lines((replace(DENSE[0], target=0.5, sparsity=0.5, valid5=0.99),))
    assert "25.00 %" in line and "0:00:44" in line and "50.0 %" in line
    assert len(line) == len(header) and (len(line) <= width or width < 55)


def test_on_a_terminal_a_bar_moves_within_the_epoch() -> None:
    told = "\n".join(lines(DENSE, force_terminal=True, width=100))
    assert "dense, epoch 1 of 12" in told and "loss 1.0000" in told
    assert "1.2500   75.00 %" in told and told.count("time left") == 1


def test_what_was_trained_before_has_no_bar() -> None:
    assert lines((), replace(COURSE, step=120), force_terminal=True) == []
