"""The user's cache folder: what can be made again, and takes a while to make."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "CAMPFIRE_FX_CACHE"
"""Environment variable that names the folder."""


def cache_folder() -> Path:
    """Return the folder of `CAMPFIRE_FX_CACHE`; where that is not set, campfire_fx in the user's cache folder."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache")) / "campfire_fx"
