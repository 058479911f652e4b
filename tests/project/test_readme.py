"""README.md: its table holds the numbers of docs/comparison.md, and its regimes are there."""

from __future__ import annotations

import re

import campfire_fx
from campfire_fx.sparsity import REGIMES, regime_named
from tests.project import pages

RUNS = {  # rows of the README: runs of the comparison
    "dense": "dense",
    "**slim**, regime `channel`": "channel 0.5 MACs",
    "the slim widths, trained from scratch": "channel 0.5 MACs, widths from scratch",
    "Torch-Pruning 1.6.1, group magnitude, gradual": "torch-pruning/magnitude/gradual 0.5 MACs",
    "every layer at 0.7 of its width, trained from scratch": "uniform 0.5 MACs",
}


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a table's rows, by the first."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)]
    return {first: cells for first, *cells in lines}


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next."""
    return pages.text(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_table_holds_the_numbers_of_the_comparison() -> None:
    told = rows(section("README.md", "What it costs"))
    assert RUNS.keys() <= told.keys()
    compared = section("docs/comparison.md", "Channels to a target, beside Torch-Pruning").split(
        "\nMobileNetV2 for CIFAR", 1
    )[0]
    measured = rows(compared)
    head = measured["run"]
    for row, name in RUNS.items():
        run = dict(zip(head, measured[name], strict=True))
        accuracy = run["accuracy %"].split(" ")[0]
        assert told[row] == [f"{accuracy} %", run["MACs"], run["parameters"], run["time, batch 64"]], row


def test_the_regimes_that_it_names_are_there() -> None:
    named = [cell for cells in rows(section("README.md", "Which regime for what")).values() for cell in cells]
    words = set(re.findall(r"`([\w:-]+)`", " ".join(named)))
    assert len(words) > 8
    assert all(word in REGIMES or regime_named(word) for word in words)


def test_it_fits_on_a_few_screens() -> None:
    assert len(pages.text("README.md").splitlines()) < 150


def test_one_version_is_told_everywhere() -> None:
    changelog, citation = pages.text("CHANGELOG.md"), pages.text("CITATION.cff")
    released = re.findall(r"^## \[(\d.*?)\]", changelog, re.M)
    assert released[0] == campfire_fx.__version__
    assert re.findall(r"^version: (.*)$", citation, re.M) == [campfire_fx.__version__]
