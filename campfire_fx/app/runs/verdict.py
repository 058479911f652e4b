"""The verdict on a run, in one line: what the slim network saves, and what that costs in accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from campfire_fx.app.train.tally import unpack
from campfire_fx.cost.time_ratio import TimeRatio
from campfire_fx.report.intervals import Interval, of_difference, of_paired_difference
from campfire_fx.report.numbers import percent

FORMERLY = "wishes"
"""What runs of former versions call the arguments of `sparsify` in their settings."""
_REFERENCES = ("dense", "sparse")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to.

    Attributes:
        line: the whole of it, as "32 % fewer parameters, time the same, accuracy +0.4 ± 0.9 points".
        note: what was held against what, and the intervals.
    """

    line: str
    note: str


def verdict(rows: Sequence[Mapping[str, Any]]) -> Verdict | None:
    """Return the verdict on the rows of results.json; None where there is nothing to compare.

    Time is "the same" only where the interval of its ratio holds 1, and not spoken of where none was measured.
    """
    found = {row["name"]: row for row in rows}
    other = next((found[name] for name in _REFERENCES if name in found), None)
    slim = found.get("slim")
    if slim is None or other is None:
        return None
    parts = [_saved(slim, other, "parameters", "parameters"), _saved(slim, other, "macs", "MACs")]
    ratio = ratio_of(slim) if other is rows[0] else None
    if ratio is not None:
        parts.append(_time(ratio))
    notes = [f"Slim beside {other['name']}, one seed"]
    if other["name"] == "dense":
        change, how = _change(slim, other)
        reach = max(change.high - change.value, change.value - change.low)
        parts.append(f"accuracy {_points(change.value)} ± {100 * reach:.1f} points")
        notes.append(f"accuracy {_points(change.low)} to {_points(change.high)} points on {slim['images']:,} {how}")
    else:
        parts.append("the same outputs")
    if ratio is not None:
        notes.append(f"time {percent(ratio.low, 0)} to {percent(ratio.high, 0)} of {other['name']}'s")
    told = f"{notes[0]}. {'95 % intervals: ' + ', '.join(notes[1:]) + '.' if notes[1:] else ''}"
    line = ", ".join(part for part in parts if part)
    return Verdict(line[0].upper() + line[1:], told.strip())


def ratio_of(row: Mapping[str, Any]) -> TimeRatio | None:
    """Return how a row's time compares with that of the first; None of that one itself, and where it was not noted."""
    noted = row.get("latency_ratio")
    return None if noted is None else TimeRatio(**noted)


def _saved(slim: Mapping[str, Any], other: Mapping[str, Any], key: str, what: str) -> str:
    share = 1 - slim[key] / other[key]
    if slim[key] == other[key]:
        return f"as many {what}"
    return f"{_whole(share)} fewer {what}"


def _whole(share: float) -> str:
    """Return a share without decimals, as far as it is neither nothing nor all that way."""
    return percent(share, 0 if 0.01 <= share <= 0.99 else 1)


def _time(ratio: TimeRatio) -> str:
    if not ratio.differs:
        return "time the same"
    return f"{_whole(abs(1 - ratio.value))} {'less' if ratio.value < 1 else 'more'} time"


def _change(slim: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Interval, str]:
    """Return the difference in accuracy; of pairs where it is known which images each had right."""
    if slim.get("which") and other.get("which"):
        ours, theirs = unpack(slim["which"]), unpack(other["which"])
        won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        return of_paired_difference(won, lost, slim["images"]), "test images, compared one by one"
    return of_difference((other["right"], other["images"]), (slim["right"], slim["images"])), "test images"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def unbroken(text: str) -> str:
    """Return a text that stays on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def settings_told(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values of a run's settings as people read them; what was not set is left out."""
    for name, value in settings.items():
        if name in ("sparsify", FORMERLY, "recipe", "given"):
            yield from settings_told(value)
        elif value is not None and value not in ([], {}, ()):
            yield name.replace("_", " "), _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_value(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
