"""Batches: every image once an epoch, the same epoch whenever asked for, shifted and mirrored as said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from campfire_fx.app.train.batches import TrainBatches, mirror, normalise, plain_batches, shift
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.split import Split


@pytest.fixture
def data() -> ImageData:
    images = torch.randint(1, 256, (50, 1, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(50))
    return ImageData("random", tuple(map(str, range(50))), split, split, split, False, (0.5,), (0.25,))


def test_every_image_comes_once_an_epoch(data: ImageData) -> None:
    batches = TrainBatches(data, 10, seed=0)
    seen = torch.cat([targets for _, targets in batches.epoch(0)])
    assert len(batches) == 5
    assert seen.sort().values.tolist() == list(range(50))


def test_an_epoch_is_the_same_whenever_it_is_asked_for(data: ImageData) -> None:
    batches = TrainBatches(data, 20, seed=3)
    later = list(batches.epoch(7))
    list(batches.epoch(8))
    for (images, targets), (again, same) in zip(later, batches.epoch(7), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(targets, same)


@pytest.mark.parametrize(("seed", "epoch"), [(3, 8), (4, 7)])
def test_epochs_and_seeds_differ(data: ImageData, seed: int, epoch: int) -> None:
    order = next(TrainBatches(data, 50, seed=3).epoch(7))[1]
    assert not torch.equal(order, next(TrainBatches(data, 50, seed).epoch(epoch))[1])


def test_shift_moves_by_an_eighth_at_most_and_fills_with_zeros(data: ImageData) -> None:
    images = data.train.images
    moved = shift(images, torch.randint(0, 3, (2, 50, 1)))
    places = []
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before, (1, 1, 1, 1))
        places.append(
            [(r, c) for r in range(3) for c in range(3) if torch.equal(padded[:, r : r + 8, c : c + 8], after)]
        )
    assert all(len(found) == 1 for found in places)
    assert {found[0] for found in places} == {(r, c) for r in range(3) for c in range(3)}


def test_a_later_step_is_the_same_without_those_before_it(data: ImageData) -> None:
    batches = TrainBatches(replace(data, mirrored=True), 10, seed=3)
    whole = list(batches.epoch(2))
    for start in range(6):
        rest = list(batches.epoch(2, start))
        assert len(rest) == 5 - start
        for (images, targets), (again, same) in zip(whole[start:], rest, strict=True):
            assert torch.equal(images, again) and torch.equal(targets, same)


def test_half_of_the_images_are_mirrored_and_none_where_told_so(data: ImageData) -> None:
    plain = replace(data, mirrored=True)
    (moved, targets), (still, rows) = (next(TrainBatches(plain, 50, 0, moved=told).epoch(0)) for told in (True, False))
    assert torch.equal(still, normalise(data.train.images[rows], data))
    assert torch.equal(targets, rows) and not torch.equal(moved, still)


def test_mirror_flips_those_that_it_is_told(data: ImageData) -> None:
    images = data.train.images
    told = torch.arange(50) % 2 == 0
    flipped = mirror(images, told)
    is_flipped = (flipped == images.flip(3)).flatten(1).all(1)
    assert torch.equal(is_flipped, told)
    assert torch.equal(flipped[~told], images[~told])


def test_normalise_is_the_usual_formula(data: ImageData) -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert normalise(images, data).flatten().tolist() == pytest.approx([-2.0, -1.2, 2.0])


def test_plain_batches_keep_the_order(data: ImageData) -> None:
    parts = list(plain_batches(data.valid, data, batch=20))
    assert [len(targets) for _, targets in parts] == [20, 20, 10]
    assert torch.equal(torch.cat([images for images, _ in parts]), normalise(data.valid.images, data))
