"""Models by name: built with the classes asked for, and refused with a hint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import SmallResNet
from campfire_fx.base.errors import TrainError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"mynets_{tmp_path.name.replace('-', '_')}"
    Path(f"{name}.py").write_text(
        "from torch import nn\n"
        "def net(classes=3): return nn.Sequential(nn.Conv2d(1, classes, 1))\n"
        "def number(): return 7\n"
        "def broken(): raise ValueError('no luck')\n"
        "def like_timm(num_classes=1000, in_chans=3, width=4): return nn.Conv2d(in_chans, num_classes, 1)\n"
        "def open_timm(**options): return like_timm(**options)\n"
        "def open_here(**options): return net(**options)\n"
        "def closed(**options): return number(**options)\n"
    )
    return name


def test_small_networks_go_before_torchvision() -> None:
    assert isinstance(build_model("resnet20", classes=4, channels=1), SmallResNet)


def test_torchvision_networks_take_classes() -> None:
    model = build_model("squeezenet1_1", classes=5, channels=3)
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 5)


def test_torchvision_detectors_fetch_no_backbone() -> None:
    assert isinstance(build_model("lraspp_mobilenet_v3_large"), nn.Module)


def test_factories_get_what_they_take(module: str) -> None:
    model = build_model(f"{module}:net", classes=6, channels=1)
    assert model(torch.randn(1, 1, 4, 4)).shape == (1, 6, 4, 4)


@pytest.mark.parametrize("name", ["like_timm", "open_timm", "open_here"])
def test_classes_and_channels_by_any_name(module: str, name: str) -> None:
    model = build_model(f"{module}:{name}", classes=6, channels=1)
    assert model(torch.randn(1, 1, 4, 4)).shape == (1, 6, 4, 4)


@pytest.mark.parametrize(("name", "asked", "text"), [
    ("MODULE:like_timm", {"widht": 3}, "no option 'widht'. Did you mean 'width'. It takes num_classes, in_chans"),
    ("MODULE:number", {"width": 3}, "it has no option 'width'. It takes no options."),
    ("MODULE:open_timm", {"widht": 3}, "unexpected keyword argument 'widht'.. Give options that it takes."),
    ("MODULE:closed", {}, "it returned a int"),
    ("resnet8", {"widht": 3}, "it has no option 'widht'"),
    ("resnet18", {"widht": 3}, "unexpected keyword argument 'widht'.. Give options that it takes."),
    ("resnet18", {"num_classes": "many"}, "calling it failed .TypeError: .* Fix its code, or give it other options."),
    ("resnet18", {"pretrained": True}, "'pretrained' is no option of the network itself. Leave it out."),
])  # fmt: skip
def test_options_that_a_network_does_not_have(module: str, name: str, asked: dict, text: str) -> None:
    with pytest.raises(TrainError, match=text):
        build_model(name.replace("MODULE", module), asked)


@pytest.mark.parametrize(("name", "text"), [
    ("sys:path", "a list cannot be called"),
    ("resnet5O", r"torchvision has no such model. Did you mean 'resnet50'\?"),
    ("no_such_module:net", "it cannot be imported"),
    ("MODULE:other", "it cannot be imported"),
    ("MODULE:number", "it returned a int, not a torch.nn.Module"),
    ("MODULE:broken", "calling it failed .ValueError: no luck."),
])  # fmt: skip
def test_wrong_names_are_refused(module: str, name: str, text: str) -> None:
    with pytest.raises(TrainError, match=text):
        build_model(name.replace("MODULE", module))


def test_grey_images_need_a_network_that_takes_them() -> None:
    with pytest.raises(TrainError, match="takes colour images, the data are grey"):
        build_model("resnet18", classes=10, channels=1)
