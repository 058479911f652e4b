"""The log of a run, `log.csv`: a line for each epoch of each network."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from campfire_fx.base.errors import ReportError

LOG = "log.csv"


@dataclass(frozen=True, slots=True)
class LoggedEpoch:
    """One epoch of one network; None is what the log does not say. Other columns are passed over.

    Attributes:
        epoch: counted from 0.
        loss: mean over the training images.
        valid: share of the validation images right, in [0, 1].
        seconds: it took.
        target, sparsity: share of zeros due, and there, in the weights of the pruned layers as the epoch ends, when
            the masks are those of the next one.
        kernels: share of those weights in dead kernels.
        window: share of zeros inside the other kernels.
        primal, dual: ADMM's residuals ||W - Z||^2 and ||Z' - Z||^2, at the update with which the epoch ends.
        valid5: share of the validation images whose class was among the first five answers.
    """

    epoch: int
    loss: float | None = None
    valid: float | None = None
    seconds: float | None = None
    target: float | None = None
    sparsity: float | None = None
    kernels: float | None = None
    window: float | None = None
    primal: float | None = None
    dual: float | None = None
    valid5: float | None = None


_NUMBERS = tuple(item.name for item in fields(LoggedEpoch))[1:]


def read_log(path: Path) -> dict[str, tuple[LoggedEpoch, ...]]:
    """Read the epochs of each network, by its name.

    Raises:
        ReportError: the file holds something else.
    """
    found: dict[str, list[LoggedEpoch]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                numbers = {name: _number(row, name) for name in _NUMBERS}
                found.setdefault(row["network"], []).append(LoggedEpoch(int(row["epoch"]), **numbers))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ReportError(f"Log at {path}: it cannot be read ({error!r}). Move it away, or train again.") from error
    return {name: tuple(epochs) for name, epochs in found.items()}


def _number(row: Mapping[str, str | None], name: str) -> float | None:
    text = row.get(name)
    return float(text) if text else None
