"""Images read as they are needed: cuts follow their law, and depend on seed, epoch and picture alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from campfire_fx.app.train.batches import Share, TrainBatches, normalise, plain_batches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.pictures import Files, Skips
from campfire_fx.app.train.ranks import Ranks
from campfire_fx.app.train.streamed import Streamed, plain_keys, read_batches
from campfire_fx.base.errors import TrainError


@pytest.fixture
def split(tmp_path: Path) -> Streamed:
    noise = np.random.default_rng(0)
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(noise.integers(0, 256, (20, 30, 3), np.uint8)).save(paths[-1])
    return Streamed(Files(tuple(map(str, paths)), tuple(range(12))), side=16, resize=18)


def data_of(split: Streamed) -> ImageData:
    return ImageData("noise", tuple("abcdefghijkl"), split, split, split, True, (0.5,) * 3, (0.25,) * 3)


def cuts(split: Streamed, n: int) -> torch.Tensor:
    """Cuts of the first picture, uint8 (n, C, side, side): one for each epoch."""
    keys = [[(epoch, 0) for epoch in range(n)]]
    ((images, _),) = read_batches(split, keys, seed=0, workers=0, skips=Skips())
    return images


def ramp(tmp_path: Path, width: int, height: int) -> Streamed:
    """A picture whose red says the column and whose green says the row, from 0 to 255."""
    red = np.broadcast_to(np.linspace(0, 255, width)[None], (height, width))
    green = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    pixels = np.stack([red, green, red * 0], -1).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    return Streamed(Files((str(tmp_path / "ramp.png"),), (0,)), side=64, resize=64)


def test_cuts_are_of_the_area_and_form_of_imagenet(tmp_path: Path) -> None:
    images = cuts(ramp(tmp_path, 200, 150), 400).float()
    # From the first row to the last, and likewise across, less the half rows that resizing averages away.
    wide, high = (images[:, c].amax((1, 2)) - images[:, c].amin((1, 2)) for c in (0, 1))
    width, height = wide / 255 * 199 + 1, high / 255 * 149 + 1
    areas, ratios = width * height / (200 * 150), width / height
    assert 0.06 < areas.min() < 0.11 and areas.max() > 0.9
    assert 0.7 < ratios.min() < 0.8 and 1.26 < ratios.max() < 1.4


def test_a_picture_that_no_cut_fits_is_cut_at_its_centre(tmp_path: Path) -> None:
    red = cuts(ramp(tmp_path, 1000, 10), 20)[:, 0].float()
    assert (red - 127.5).abs().max() < 3  # 13 columns of 1000


def test_half_of_the_cuts_are_mirrored(tmp_path: Path) -> None:
    images = cuts(ramp(tmp_path, 64, 64), 200).int()
    assert images.shape == (200, 3, 64, 64)
    assert 70 < int((images[:, 0, 0, 0] > images[:, 0, 0, -1]).sum()) < 130


def test_the_centre_is_cut_out_of_the_resized_picture(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "0.png")
    split = Streamed(Files((str(tmp_path / "0.png"),), (0,)), side=20, resize=40)
    ((images, _),) = read_batches(split, [plain_keys([0])], seed=0, workers=0, skips=Skips())
    assert images.shape == (1, 3, 20, 20) and images.min() == 255


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_is_the_same_whenever_and_by_whomever_it_is_read(split: Streamed, workers: int) -> None:
    data = data_of(split)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    whole = list(TrainBatches(data, 4, seed=3).epoch(1))
    later = list(TrainBatches(data, 4, seed=3, share=Share(workers=workers)).epoch(1, start=1))
    assert len(whole) == 3 and len(later) == 2
    for (images, targets), (again, same) in zip(whole[1:], later, strict=True):
        assert torch.equal(images, again) and torch.equal(targets, same)
    assert torch.equal(torch.get_rng_state(), before)
    other = next(TrainBatches(data, 4, seed=3).epoch(2))
    assert not torch.equal(other[0], whole[0][0])


def test_processes_share_a_step(split: Streamed) -> None:
    data = data_of(split)
    whole = next(TrainBatches(data, 4, seed=3).epoch(0))
    parts = [next(TrainBatches(data, 4, 3, share=Share(Ranks(rank, 2))).epoch(0)) for rank in (0, 1)]
    assert torch.equal(torch.cat([images for images, _ in parts]), whole[0])
    assert torch.equal(torch.cat([targets for _, targets in parts]), whole[1])
    plain = [targets for rank in (0, 1) for _, targets in plain_batches(split, data, share=Share(Ranks(rank, 2)))]
    assert torch.cat(plain).sort().values.tolist() == list(range(12))


def test_unreadable_pictures_are_missing_from_their_batch(split: Streamed, caplog) -> None:
    broken = Path(split.pictures.name(2))
    broken.write_bytes(broken.read_bytes()[:100])
    data = data_of(split)
    for _ in range(2):
        targets = torch.cat([targets for _, targets in plain_batches(split, data, batch=5)])
        assert targets.tolist() == [0, 1, *range(3, 12)]
    assert data.skips.names == [str(broken)]
    assert caplog.text.count("it cannot be read") == 1


def test_strict_stops_at_the_first(split: Streamed) -> None:
    Path(split.pictures.name(2)).write_bytes(b"")
    with pytest.raises(TrainError, match=r"Image at .*2.png: it cannot be read"):
        list(read_batches(split, [plain_keys([1, 2])], seed=0, workers=0, skips=Skips(strict=True)))


def test_a_batch_without_a_readable_picture_stops(split: Streamed) -> None:
    for row in (3, 4):
        Path(split.pictures.name(row)).unlink()
    with pytest.raises(TrainError, match=r"Images of a batch: none of 2 can be read; the first is .*3.png"):
        list(read_batches(split, [plain_keys([3, 4])], seed=0, workers=0, skips=Skips()))


def test_plain_images_are_the_centres(split: Streamed) -> None:
    data = data_of(split)
    images, _ = next(plain_batches(split, data, batch=3))
    whole = split.pictures[1][0].resize((27, 18), Image.Resampling.BILINEAR)
    picture = whole.crop((6, 1, 22, 17))  # 5.5 is rounded to the even
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(images[1], normalise(pixels.unsqueeze(0), data)[0])


def test_pictures_are_resized_as_told(split: Streamed) -> None:
    """As torchvision's own transform does it, which weights come with."""
    for way in ("bilinear", "bicubic"):
        told = replace(split, interpolation=way)
        ((images, _),) = read_batches(told, [plain_keys([3])], seed=0, workers=0, skips=Skips())
        with Image.open(split.pictures.paths[3]) as picture:
            own = ImageClassification(crop_size=16, resize_size=18, interpolation=InterpolationMode(way))(picture)
        data = replace(data_of(told), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        torch.testing.assert_close(normalise(images, data)[0], own)
    assert not torch.equal(cuts(split, 1), cuts(replace(split, interpolation="bicubic"), 1))


def test_grey_pictures_are_given_in_equal_channels(split: Streamed) -> None:
    grey = replace(split, pictures=replace(split.pictures, mode="L"), channels=1)
    data = replace(data_of(grey), mean=(0.5,), std=(0.25,))
    ((one, _),) = plain_batches(grey, data)
    ((three, _),) = plain_batches(data.given_as(3).test, data.given_as(3))
    assert three.shape == (12, 3, 16, 16) and torch.equal(three, one.expand(-1, 3, -1, -1))
