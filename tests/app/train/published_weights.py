"""Weights as torchvision publishes them, made here: a file in the folder of torch.hub, and the entry that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from campfire_fx.app.train.published import sha256_of


def publish(
    monkeypatch: pytest.MonkeyPatch, home: Path, model: str, state: Mapping[str, Any], *, there: bool = True
) -> Path:
    """Let torchvision's DEFAULT of a model be a state_dict, in a file of an own hub folder; not `there`: beside it."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    folder = home / "hub" / "checkpoints" if there else home / "elsewhere"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "new.pth"
    torch.save(dict(state), path)
    path = path.rename(folder / f"{model}-{sha256_of(path)[:8]}.pth")
    entry = models.get_model_weights(model)["DEFAULT"]
    monkeypatch.setattr(entry.value, "url", f"https://weights.invalid/models/{path.name}")
    return path
