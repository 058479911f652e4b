"""torchvision's weights by name: found, fetched only when told to, checked, and read as torchvision reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision import models

from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.first import first_network
from campfire_fx.app.train.published import fetch, published
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.trained import find_start
from campfire_fx.base.errors import TrainError
from tests.app.train.published_weights import publish

SMALL = "squeezenet1_1"


def photographs(classes: int = 1000) -> ImageData:
    split = Split(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.arange(2))
    return ImageData("x", tuple(map(str, range(classes))), split, split, split, True, (0.5,) * 3, (0.5,) * 3)


def former_names(state: dict[str, Any]) -> dict[str, Any]:
    """Name the layers of a DenseNet as its published file does."""
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in older.items()}


@pytest.mark.parametrize(("model", "options"), [("densenet121", {}), ("googlenet", {"init_weights": False})])
def test_the_network_is_the_one_that_torchvision_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    state = models.get_model(model, weights=None, **options).state_dict()
    path = publish(monkeypatch, tmp_path, model, former_names(state))
    expected = models.get_model(model, weights="DEFAULT").eval()
    images = torch.randn(2, 3, 64, 64)
    for weights in ("DEFAULT", str(path)):  # the file by itself is known by its name and hash
        start = find_start(None, weights, model, "resnet8")
        assert start is not None
        first = first_network(model, photographs(), 0, start.open(False))
        with torch.no_grad():
            assert torch.equal(first.network.eval()(images), expected(images))
        assert first.data.mean == (0.485, 0.456, 0.406) and start.images["image_size"] == 224


def test_images_are_given_as_the_weights_say() -> None:
    found = published("efficientnet_b1", "IMAGENET1K_V2")
    assert found.name == "EfficientNet_B1_Weights.IMAGENET1K_V2"
    sizes = {name: found.images[name] for name in ("image_size", "resize", "interpolation")}
    assert sizes == {"image_size": 240, "resize": 255, "interpolation": "bilinear"}
    assert published("efficientnet_b0", "EfficientNet_B0_Weights.DEFAULT").images["interpolation"] == "bicubic"


@pytest.mark.parametrize(("model", "name", "told"), [
    ("resnet8", "DEFAULT", "torchvision has no weights of resnet8. Give a file, or --model with another model"),
    ("resnet50-v1", "DEFAULT", "torchvision has no weights of resnet50-v1"),
    ("resnet18", "BEST", "resnet18 has none of that name. Give a file, or one of IMAGENET1K_V1, DEFAULT."),
    ("fcn_resnet50", "DEFAULT", "fcn_resnet50 does not classify images"),
])  # fmt: skip
def test_names_that_are_none(model: str, name: str, told: str) -> None:
    with pytest.raises(TrainError, match=re.escape(f"--weights {name}: {told}")):
        published(model, name)


def test_nothing_is_downloaded_unless_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = publish(monkeypatch, tmp_path, SMALL, {"a": torch.ones(1)}, there=False)
    weights = published(SMALL, "DEFAULT")
    place = tmp_path / "hub/checkpoints" / elsewhere.name
    with pytest.raises(TrainError, match=re.escape(f"they are not at {place}. Give --download, or put there the file")):
        fetch(weights, download=False)

    def fail(*_: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    told = f"cannot be downloaded (<urlopen error no route to host>). Put its file at {place}."
    with pytest.raises(TrainError, match=re.escape(told)):
        fetch(weights, download=True)
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda url, place, hash_: elsewhere.rename(place))
    assert fetch(weights, download=True) == place
    place.write_bytes(place.read_bytes() + b"more")
    with pytest.raises(TrainError, match="the file is damaged. Remove it, and give --download"):
        fetch(weights, download=False)
