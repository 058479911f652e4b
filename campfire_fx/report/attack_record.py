"""What an attack found, as records, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from campfire_fx.base.errors import AttackError
from campfire_fx.base.records import Record
from campfire_fx.report.intervals import Interval, of_paired_difference, of_share

_COLUMNS = (
    "network", "epsilon", "space", "right", "images", "accuracy", "low", "high",
    "difference", "difference_low", "difference_high", "unmoved",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve(Record):
    """One network under attack.

    Attributes:
        name: as it was given.
        right: images that it knows, for each epsilon.
        unmoved: images whose gradient is 0 in every pixel, so that no step is taken: they flatter the accuracy.
        against: for each epsilon, its accuracy less that of the first network, on the same images; shares in [-1, 1].
    """

    name: str
    right: tuple[int, ...]
    unmoved: int
    against: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class AttackRecord(Record):
    """Accuracy of several networks under attacks of several sizes.

    Attributes:
        epsilons: sizes of the step, rising, 0 first.
        space: their unit: "raw", that of the images; "normalised", standard deviations.
        images: how many were attacked.
        curves: one for each network; the first is what the others are compared with.
    """

    epsilons: tuple[float, ...]
    space: str
    images: int
    curves: tuple[Curve, ...]

    def accuracy(self, curve: Curve) -> tuple[Interval, ...]:
        """Return a network's accuracy for each epsilon, a share in [0, 1] with its 95 % interval."""
        return tuple(of_share(right, self.images) for right in curve.right)

    def to_json(self) -> str:
        """Return the record as JSON text; the accuracies are in it, too."""
        curves = [asdict(c) | {"accuracy": [asdict(share) for share in self.accuracy(c)]} for c in self.curves]
        return json.dumps(asdict(self) | {"curves": curves}, indent=2)

    @staticmethod
    def from_json(text: str | bytes) -> AttackRecord:
        """Read a record that `to_json` wrote; bytes are UTF-8.

        Raises:
            AttackError: it is something else.
        """
        try:
            facts = json.loads(text)
            curves = tuple(_curve(curve) for curve in facts["curves"])
            return AttackRecord(tuple(facts["epsilons"]), str(facts["space"]), int(facts["images"]), curves)
        except (ValueError, KeyError, TypeError) as error:
            raise AttackError(f"Attack record: it cannot be read ({error!r}). Run the attack again.") from error

    def to_csv(self) -> str:
        """Return the record as CSV text: a line for each network and epsilon."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for curve in self.curves:
            columns = zip(self.epsilons, curve.right, self.accuracy(curve), curve.against, strict=True)
            for epsilon, right, share, other in columns:
                shares = (share.value, share.low, share.high, other.value, other.low, other.high)
                shown = (f"{value:.6f}" for value in shares)
                rows.writerow((curve.name, f"{epsilon:g}", self.space, right, self.images, *shown, curve.unmoved))
        return text.getvalue()


def record_of(
    epsilons: tuple[float, ...], space: str, known: Mapping[str, Tensor], unmoved: Mapping[str, int]
) -> AttackRecord:
    """Count which images are known, bool (epsilons, N) for each network, and compare all with the first."""
    first = next(iter(known.values()))
    images = first.shape[1]
    curves = []
    for name, right in known.items():
        won, lost = ((a & ~b).sum(1).tolist() for a, b in ((right, first), (first, right)))
        against = tuple(of_paired_difference(w, x, images) for w, x in zip(won, lost, strict=True))
        curves.append(Curve(name, tuple(right.sum(1).tolist()), unmoved[name], against))
    return AttackRecord(epsilons, space, images, tuple(curves))


def _curve(facts: dict[str, Any]) -> Curve:
    against = tuple(Interval(**interval) for interval in facts["against"])
    return Curve(str(facts["name"]), tuple(facts["right"]), int(facts["unmoved"]), against)
