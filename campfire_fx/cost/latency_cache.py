"""Times that were measured before: one JSON file for each setting, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import CostError
from campfire_fx.cost.latency_record import Setting

_log = logging.getLogger(__name__)

_PATIENCE = 10  # seconds, while another process writes


def kept_times(folder: Path, setting: Setting) -> dict[str, float]:
    """Return the milliseconds kept for a setting, by key; a file that cannot be read or is spoilt holds none."""
    try:
        found = json.loads(_file(folder, setting).read_text(encoding="utf-8"))
        times = found["ms"] if found["setting"] == asdict(setting) else {}
        return {key: ms for key, ms in times.items() if isinstance(ms, float) and 0 <= ms < math.inf}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _log.info("Latency cache in %s: not used (%s).", folder, error)
        return {}


def keep_times(folder: Path, setting: Setting, times: Mapping[str, float]) -> None:
    """Add times to those kept for a setting, other processes' among them; where it cannot be written, do nothing."""
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        file = _file(folder, setting)
        with FileLock(file.with_suffix(".lock"), timeout=_PATIENCE):
            known = {"setting": asdict(setting), "ms": {**kept_times(folder, setting), **times}}
            write_text(file, json.dumps(known, indent=0), CostError)
    except (OSError, NotImplementedError, RuntimeError, CostError) as error:
        _log.info("Latency cache in %s: not written (%s).", folder, error)


def _file(folder: Path, setting: Setting) -> Path:
    name = hashlib.sha256(repr(setting).encode()).hexdigest()[:16]
    return folder.expanduser() / f"latency-{name}.json"
