"""torchvision's data sets: each row of the table names what is there, and one is read from its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import datasets

from campfire_fx.app.train.data import Where, open_data
from campfire_fx.app.train.known_sets import KNOWN_SETS
from campfire_fx.base.errors import TrainError
from tests.app.train.test_data import write_idx


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_a_set_that_is_not_there_says_so_and_nothing_is_fetched(tmp_path: Path, name: str) -> None:
    kind = KNOWN_SETS[name].kind
    with pytest.raises(TrainError, match=rf"{kind} at .*: it cannot be opened \(.*\)\. Give --download"):
        open_data(name, Where(root=tmp_path))


@pytest.mark.parametrize("streamed", [False, True])
def test_mnist_is_read_from_its_files(tmp_path: Path, streamed: bool) -> None:
    images, classes = torch.randint(0, 256, (40, 28, 28)), torch.arange(40) % 10
    for part in ("train", "t10k"):
        write_idx(tmp_path / "MNIST/raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST/raw" / f"{part}-labels-idx1-ubyte", classes)
    if streamed:
        with pytest.raises(TrainError, match="--data mnist: a mirrored image can belong to another class"):
            open_data("mnist", Where(root=tmp_path, streamed=True))
        return
    data = open_data("mnist", Where(root=tmp_path))
    assert torch.equal(data.test.images, images.byte().unsqueeze(1))
    assert torch.equal(data.test.targets, classes)
    assert len(data.classes) == 10 and not data.mirrored and len(data.train) == 36


def test_a_set_of_colour_images_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(datasets.FakeData):
        def __init__(self, root: str, split: str, download: bool) -> None:
            assert (root, download) == (str(tmp_path), False)
            super().__init__(12 if split == "train" else 3, (3, 40, 30), 4, random_offset=len(split))

    monkeypatch.setattr(datasets, "Food101", Small)
    data = open_data("food101", Where(root=tmp_path, image_size=16, streamed=True, held_out=0.25))
    assert (len(data.train), len(data.valid), len(data.test), data.shape) == (9, 3, 3, (3, 16, 16))
    assert len(data.classes) == 101
    image, target = data.test.pictures[0]
    assert image.size == (30, 40) and isinstance(target, int)
