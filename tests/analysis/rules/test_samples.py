"""Every row of the table has samples, and every sample a row."""

from __future__ import annotations

from collections.abc import Hashable

from campfire_fx.analysis.rules import table
from tests.analysis.rules.samples import SAMPLES


def name_of(target: Hashable) -> str:
    """Return a readable name of a row's target."""
    module = getattr(target, "__module__", None) or ""
    return str(target) if isinstance(target, str) else f"{module.removeprefix('torch.')}.{target.__name__}"  # type: ignore[attr-defined]


def test_every_row_has_samples() -> None:
    bare = sorted(name_of(target) for target in table().keys() - SAMPLES.keys())
    assert not bare, f"rows without samples: {bare}"


def test_every_sample_has_a_row() -> None:
    stray = sorted(name_of(target) for target in SAMPLES.keys() - table().keys())
    assert not stray, f"samples of operations that have no row: {stray}"
