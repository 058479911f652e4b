"""What files and models take in runtimes, as a record, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from campfire_fx.base.records import Record
from campfire_fx.cost.measure import Latency
from campfire_fx.cost.time_ratio import TimeRatio

_FAST = ("times_as_fast", "times_as_fast_low", "times_as_fast_high")
_COLUMNS = ("name", "runtime", "median_ms", "low_ms", "high_ms", "repeats", *_FAST, "bytes", "reason")


@dataclass(frozen=True, slots=True)
class RuntimeTime(Record):
    """One file or model in one runtime.

    Attributes:
        name: of the file or model.
        runtime: with its version.
        latency: of one call; None where it could not be timed.
        bytes: size of the file; None for a model in memory.
        reason: why it could not be timed; "" where it was.
    """

    name: str
    runtime: str
    latency: Latency | None = None
    bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BenchRecord(Record):
    """Times of files and models in the runtimes that are installed, measured in turns.

    Attributes:
        rows: in the order given; the others are compared with the first that was timed.
        shapes: of the inputs of one call.
        threads: of the CPU.
        guessed: whether nothing said how large the inputs are.
    """

    rows: tuple[RuntimeTime, ...]
    shapes: tuple[tuple[int, ...], ...]
    threads: int
    guessed: bool = False

    def times_as_fast(self, row: RuntimeTime) -> float | None:
        """Return how many times as fast a row is as the first that was timed; None: not timed."""
        return self._fast(row)[0]

    def _fast(self, row: RuntimeTime) -> tuple[float | None, float | None, float | None]:
        """Return that with its interval; by medians, and without one, where rounds were too few for it."""
        if row.latency is None:
            return None, None, None
        if (ratio := row.latency.ratio) is not None:
            return astuple(ratio.times_as_fast)
        first = next(one.latency for one in self.rows if one.latency is not None)
        return first.median_ms / row.latency.median_ms, None, None

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        rows = [asdict(row) | {"times_as_fast": self.times_as_fast(row)} for row in self.rows]
        return asdict(self) | {"rows": rows}

    def to_json(self) -> str:
        """Return all numbers as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @staticmethod
    def from_dict(facts: Mapping[str, Any]) -> BenchRecord:
        """Return the record that `to_dict` gave."""
        rows = []
        for found in facts["rows"]:
            row = {name: value for name, value in found.items() if name != "times_as_fast"}
            taken = row["latency"]
            ratio = None if taken is None or taken.get("ratio") is None else TimeRatio(**taken["ratio"])
            rows.append(RuntimeTime(**row | {"latency": taken and Latency(**taken | {"ratio": ratio})}))
        shapes = tuple(tuple(shape) for shape in facts["shapes"])
        return BenchRecord(tuple(rows), shapes, int(facts["threads"]), bool(facts.get("guessed")))

    def to_csv(self) -> str:
        """Return a line for each row as CSV text."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            taken = {} if row.latency is None else asdict(row.latency)
            taken.pop("ratio", None)
            known = {"name": row.name, "runtime": row.runtime, "bytes": row.bytes, "reason": row.reason}
            writer.writerow(known | taken | dict(zip(_FAST, self._fast(row), strict=True)))
        return text.getvalue()
