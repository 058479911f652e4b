"""Images read as they are needed: cuts follow their law, and depend on seed, epoch and picture alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from campfire_fx.app.train.batches import Share, TrainBatches, normalise, plain_batches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.pictures import Files, Skips
from campfire_fx.app.train.ranks import Ranks
from campfire_fx.app.train.streamed import Streamed, _random_box, centre_cut, plain_keys, random_cut, read_batches
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


def test_cuts_are_of_the_area_and_form_asked_for() -> None:
    random = np.random.default_rng(0)
    boxes = [_random_box(200, 150, random) for _ in range(2000)]
    areas, ratios = [], []
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 200 and 0 <= top < bottom <= 150
        areas.append((right - left) * (bottom - top) / (200 * 150))
        ratios.append((right - left) / (bottom - top))
    assert 0.07 < min(areas) < 0.1 and max(areas) > 0.9
    assert 0.73 < min(ratios) < 0.78 and 1.3 < max(ratios) < 1.36


def test_a_picture_that_no_cut_fits_is_cut_at_its_centre() -> None:
    assert _random_box(1000, 10, np.random.default_rng(0)) == (493, 0, 506, 10)


def test_half_of_the_cuts_are_mirrored() -> None:
    ramp = Image.fromarray(np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2))
    random = np.random.default_rng(0)
    cuts = [np.asarray(random_cut(ramp, 8, random)) for _ in range(200)]
    assert all(cut.shape == (8, 8, 3) for cut in cuts)
    assert 70 < sum(int(cut[0, 0, 0]) > int(cut[0, -1, 0]) for cut in cuts) < 130


def test_the_centre_is_cut_out_of_the_resized_picture() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 20:40] = 255
    cut = np.asarray(centre_cut(Image.fromarray(pixels), 40, 20))
    assert cut.shape == (20, 20, 3) and cut.min() == 255


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
    with pytest.raises(TrainError, match=r"Images of a batch: none of 2 can be read, .*3.png the first"):
        list(read_batches(split, [plain_keys([3, 4])], seed=0, workers=0, skips=Skips()))


def test_plain_images_are_the_centres(split: Streamed) -> None:
    data = data_of(split)
    images, _ = next(plain_batches(split, data, batch=3))
    picture = centre_cut(split.pictures[1][0], 18, 16)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(images[1], normalise(pixels.unsqueeze(0), data)[0])
