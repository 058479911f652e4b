"""Networks and images to attack: the images are what was normalised, the names tell networks apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from campfire_fx.app.runs.networks import Wanted, networks_of, raw_batches, run_folder_of
from campfire_fx.app.train.data import ImageData, open_data
from campfire_fx.app.train.split import Split
from campfire_fx.base.errors import AttackError
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.training.model import SparseModel
from tests.app.runs.small_run import make_run


def data_of(n: int) -> ImageData:
    images = torch.arange(n * 3 * 8 * 8).view(n, 3, 8, 8).remainder(256).byte()
    split = Split(images, torch.arange(n) % 10)
    return ImageData("made", tuple("0123456789"), split, split, split, False, (0.45, 0.51, 0.62), (0.21, 0.33, 0.004))


def test_raw_images_are_those_of_the_split_to_the_bit() -> None:
    data = data_of(1100)
    images, targets = (torch.cat(parts) for parts in zip(*raw_batches(data, "test"), strict=True))
    assert torch.equal(images, data.test.images.float() / 255)
    assert torch.equal(targets, data.test.targets)


def test_some_images_are_spread_over_the_split() -> None:
    data = data_of(1000)
    targets = torch.cat([targets for _, targets in raw_batches(data, "test", 8)])
    assert targets.tolist() == [0, 5, 0, 5, 0, 5, 0, 5]
    assert sum(len(t) for _, t in raw_batches(data, "valid", 5000)) == 1000


def test_a_run_folder_gives_its_networks(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    found = networks_of([str(folder), str(folder / "dense.ckpt")], open_data("digits"), Wanted())
    assert list(found) == ["dense", "sparse", "slim", f"dense of {folder / 'dense.ckpt'}"]
    assert isinstance(found["sparse"], SparseModel) and isinstance(found["slim"], SlimModel)
    assert not any(network.training for network in found.values())
    assert run_folder_of([str(folder / "dense.ckpt")]) == run_folder_of([str(folder)]) == folder
    assert run_folder_of(["resnet18"]) is None


def test_other_images_are_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with pytest.raises(AttackError, match="it was made for images of 1x16x16, those of made are 3x8x8"):
        networks_of([str(folder)], data_of(4), Wanted())
