"""Hints: the nearest known word, and a command that installs what is missing today, without an index that knows us."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from campfire_fx.base.hints import did_you_mean, install_command

ROOT = Path(__file__).parents[2]
EXTRAS = importlib.metadata.metadata("campfire-fx").get_all("Provides-Extra")


def test_the_nearest_word() -> None:
    assert did_you_mean("widht", ["depth", "width"]) == " Did you mean 'width'?"
    assert did_you_mean("x", []) == ""


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra != "dev"])
def test_the_packages_of_an_extra_are_named(extra: str) -> None:
    declared = map(Requirement, importlib.metadata.requires("campfire-fx"))
    wanted = [one for one in declared if one.marker and one.marker.evaluate({"extra": extra})]
    told = re.findall(r'"(.*?)"', install_command(extra))
    assert [(Requirement(one).name, Requirement(one).specifier) for one in told] == [
        (one.name, one.specifier) for one in wanted
    ]
    assert wanted and install_command(extra).startswith('pip install "')


def test_where_it_was_not_installed_the_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", unknown)
    assert install_command("plot") == 'pip install ".[plot]" in the folder that campfire_fx was cloned into'


def test_no_text_names_an_extra_that_no_index_knows() -> None:
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("campfire_fx/**/*.py"),
        *ROOT.glob("passes/*.py"),
    ]
    assert len(texts) > 200, "the texts were not found"
    assert [path.name for path in texts if re.search(r"pip install\W+campfire-fx\[", path.read_text("utf-8"))] == []
