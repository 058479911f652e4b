"""The first network of a job: trained weights of every form, a new classifier where it must be, grey images."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from campfire_fx.app.train.batches import plain_batches
from campfire_fx.app.train.checkpoint import Checkpoint, restore, save
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.first import First, first_network
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import resnet8
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.trained import find_start
from campfire_fx.base.errors import TrainError


def images(channels: int = 3, classes: int = 3) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (9, channels, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.arange(9) % classes)
    names = tuple("abcdefgh"[:classes])
    return ImageData("noise", names, split, split, split, True, (0.4,) * channels, (0.2,) * channels)


def trained(classes: int = 3, channels: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(11)
    return resnet8(classes, channels).state_dict()


def first(weights: Path, data: ImageData, model: str = "resnet8", seed: int = 0) -> First:
    start = find_start(None, str(weights), model, "resnet8")
    assert start is not None
    return first_network(start.model, data, seed, start.open(False))


def assert_loaded(found: First, state: dict[str, Tensor], new: str = "-") -> None:
    own = found.network.state_dict()
    assert own.keys() == state.keys()
    for name, value in state.items():
        if not name.startswith(new):
            assert torch.equal(own[name], value), name


def test_new_weights_are_the_seeds() -> None:
    found = first_network("resnet8", images(), 5)
    torch.manual_seed(5)
    assert_loaded(found, build_model("resnet8", classes=3, channels=3).state_dict())
    assert found.start is None and found.told == ""


@pytest.mark.parametrize("way", ["bare", "module.", "_orig_mod.", "state_dict", "model_state_dict", "ema"])
def test_a_file_of_any_tool(tmp_path: Path, way: str) -> None:
    state = trained()
    held: dict[str, Any] = {f"{way}{name}": value for name, value in state.items()} if way[-1] == "." else {way: state}
    torch.save(state if way == "bare" else held, tmp_path / "x.pth")
    found = first(tmp_path / "x.pth", images())
    assert_loaded(found, state)
    assert re.fullmatch(r"Starting from .*x\.pth \(SHA-256 [0-9a-f]{12}\): all 47 tensors are loaded\.", found.told)


def test_a_classifier_for_other_classes_is_new_and_the_seeds(tmp_path: Path) -> None:
    state = trained(classes=7)
    torch.save({"model": state}, tmp_path / "x.pth")
    found, again, other = (first(tmp_path / "x.pth", images(), seed=seed) for seed in (0, 0, 1))
    assert_loaded(found, {**state, "fc.weight": torch.ones(3, 64), "fc.bias": torch.ones(3)}, new="fc.")
    assert found.told.endswith("45 of 47 tensors are loaded; fc new, for 3 classes instead of 7.")
    weights = [part.network.get_parameter("fc.weight") for part in (found, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].abs().max() <= 64**-0.5  # as torch starts a linear layer of 64 inputs


def test_grey_images_are_given_to_colour_weights_in_three_channels(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "x.pth")
    found = first(tmp_path / "x.pth", images(channels=1))
    assert_loaded(found, trained())  # the first convolution, too
    assert found.options == {"classes": 3, "channels": 3} and found.data.shape == (3, 8, 8)
    ((given, _),) = plain_batches(found.data.test, found.data)
    ((grey, _),) = plain_batches(images(channels=1).test, images(channels=1))
    assert torch.equal(given, grey.expand(-1, 3, -1, -1))
    assert "Grey images are given to it in 3 equal channels." in found.told


def test_grey_weights_take_grey_images_alone(tmp_path: Path) -> None:
    torch.save(trained(channels=1), tmp_path / "x.pth")
    assert first(tmp_path / "x.pth", images(channels=1)).data.shape == (1, 8, 8)
    with pytest.raises(TrainError, match="they are for grey images, those of noise have colour. Give other weights"):
        first(tmp_path / "x.pth", images())


def test_a_factory_that_takes_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its classifier is replaced, and again when a checkpoint of the run is read."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from campfire_fx.app.train.networks import resnet8\ndef net(): return resnet8(7)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for classes, told in ((7, "fc new, for 3 classes instead of 7"), (3, "all 47 tensors")):
        torch.save(trained(classes), tmp_path / "x.pth")
        found = first(tmp_path / "x.pth", images(channels=1), f"{name}:net")
        assert told in found.told
        assert found.start is not None and found.start["replaced"] == ("fc",)
        state = found.network.state_dict()
        checkpoint = Checkpoint(f"{name}:net", found.options, (1, 3, 8, 8), None, state, start=found.start)
        save(checkpoint, tmp_path / "dense.ckpt")
        again = first(tmp_path / "dense.ckpt", images(channels=1), f"{name}:net")
        assert_loaded(again, state)
        assert restore(checkpoint, f"{name}:net").fc.out_features == 3


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    torch.save(trained() | {"fc.bias": torch.full((3,), float("nan"))}, tmp_path / "x.pth")
    with pytest.raises(TrainError, match="fc.bias is not finite. Give weights of a training that did not diverge"):
        first(tmp_path / "x.pth", images())


def test_what_fits_nowhere_is_refused(tmp_path: Path) -> None:
    for state in (trained(classes=7) | {"conv1.weight": torch.ones(8, 3, 3, 3)}, {"a": torch.ones(1)}, {"epoch": 3}):
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(TrainError, match="State of resnet8: it does not fit the model"):
            first(tmp_path / "x.pth", images())


def test_a_head_of_another_size_is_replaced_in_a_new_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "heads_of_its_own.py").write_text(
        "from torch import nn\n"
        "def fixed():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))\n"
        "def image(): return nn.Conv2d(3, 4, 3)\n"
    )
    found = first_network("heads_of_its_own:fixed", images(), 0)
    assert found.network(torch.randn(2, 3, 8, 8)).shape == (2, 3)
    assert found.told == "MODEL heads_of_its_own:fixed: its classifier 3 is replaced by one for 3 classes."
    saved = Checkpoint("heads_of_its_own:fixed", found.options, (1, 3, 8, 8), None, found.network.state_dict())
    loaded = restore(dataclasses.replace(saved, start=found.start), "heads_of_its_own:fixed")
    assert torch.equal(loaded.get_parameter("3.weight"), found.network.get_parameter("3.weight"))
    with pytest.raises(TrainError, match="its output is not one number for each class"):
        first_network("heads_of_its_own:image", images(), 0)
    with pytest.raises(TrainError, match="cannot be run on images of 1 x 8 x 8 .* or a model for such images"):
        first_network("heads_of_its_own:fixed", images(1), 0)
