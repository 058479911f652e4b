"""The processor at hand: its name, and what it can do."""

from __future__ import annotations

import platform
from pathlib import Path

_FEATURES = ("flags", "Features")
"""What the list of instruction sets is called in /proc/cpuinfo, on x86 and on ARM."""


def processor_name() -> str:
    """Return the name of the CPU; Python knows it on some systems only."""
    return _first("model name") or platform.processor() or platform.machine()


def processor_features() -> str:
    """Return what code compiled for this very CPU may use: its architecture, name and instruction sets."""
    sets = " ".join(sorted(set(" ".join(map(_first, _FEATURES)).split())))
    return f"{platform.machine()} {processor_name()} {sets}"


def _first(wanted: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    found = (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == wanted)
    return next(found, "")
