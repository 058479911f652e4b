"""What tools that train many networks share: a JSON file for each finished run, and its test images, looked at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from campfire_fx.app.train.batches import plain_batches  # noqa: E402
from campfire_fx.app.train.data import ImageData  # noqa: E402
from campfire_fx.app.train.tally import pack  # noqa: E402
from campfire_fx.base.errors import CampfireError  # noqa: E402


class Named(Protocol):
    """A run that is told from others by its name."""

    @property
    def name(self) -> str:
        """What its files are called."""


def path_of(folder: Path, run: Named) -> Path:
    """Return where the JSON file of a finished run is."""
    return folder / f"{run.name}.json"


def read(folder: Path, run: Named) -> dict[str, Any]:
    """Return the facts that `write` wrote."""
    facts: dict[str, Any] = json.loads(path_of(folder, run).read_text(encoding="utf-8"))
    return facts


def write(facts: dict[str, Any], folder: Path, run: Named) -> dict[str, Any]:
    """Write whole or not at all: a file that is there is of a finished run. Returns the facts."""
    path = path_of(folder, run)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return facts


def check_same(path: Path, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise a CampfireError if a finished run had another budget, data or network: it could not be compared."""
    for key, value in mine.items():
        if _asked(theirs.get(key)) != _asked(value):
            raise CampfireError(
                f"Run at {path}: its {key} was {json.dumps(theirs.get(key))}, not {json.dumps(value)}."
                f" Give another --output."
            )


def _asked(value: Any) -> Any:
    """Return a value without settings that are not set: earlier versions did not know them."""
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


def tested(network: nn.Module, data: ImageData) -> dict[str, Any]:
    """Look at the test images: how many there are, the share that is classified correctly, and which they are."""
    with torch.no_grad():
        found = [network(images).argmax(1) == targets for images, targets in plain_batches(data.test, data)]
    right = torch.cat(found)
    return {"images": len(right), "accuracy": float(right.double().mean()), "right": pack(right)}


def told(seconds: float) -> str:
    """Say how long something takes."""
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} seconds"
