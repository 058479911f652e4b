"""Run commands in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from campfire_fx.app.cli import app
from tests.app.train.test_folders import write_image

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `run("shrink", path, ...)`; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Colour images of two classes, 10 x 10."""
    for index, name in enumerate(("ant", "bee")):
        for number in range(20):
            write_image(tmp_path / "photos" / name / f"{number}.png", 100 * index + number)
    return tmp_path / "photos"
