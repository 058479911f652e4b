"""Data sets: found, split without overlap, read as they are."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from campfire_fx.app.train.data import Where, open_data
from campfire_fx.app.train.sources import read_idx
from campfire_fx.app.train.split import resize
from campfire_fx.base.errors import TrainError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_image(path: Path, size: tuple[int, int] = (10, 10), colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, colour, colour)).save(path)


def write_classes(root: Path, per_class: int = 8) -> None:
    for index, name in enumerate(("ant", "bee")):
        for number in range(per_class):
            write_image(root / name / f"{number}.png", colour=100 * index + number)


def write_idx(path: Path, values: Tensor) -> None:
    header = b"\x00\x00\x08" + bytes([values.dim()]) + struct.pack(f">{values.dim()}I", *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = header + values.byte().numpy().tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_digits_are_whole_and_split_without_overlap() -> None:
    data = open_data("digits", Where(image_size=8))
    parts = (data.train, data.valid, data.test)
    assert [len(part) for part in parts] == [1213, 135, 449]
    rows = torch.cat([part.images for part in parts]).flatten(1)
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().data * (255 / 16)).round().byte()
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, original.tolist()))
    assert all(set(part.targets.tolist()) == set(range(10)) for part in parts)


def test_digits_are_upsampled_for_three_stages() -> None:
    assert open_data("digits").shape == (1, 16, 16)


def test_the_split_is_the_same_every_time() -> None:
    first, second = open_data("digits"), open_data("digits")
    assert torch.equal(first.test.images, second.test.images)


def test_statistics_are_those_of_the_training_images() -> None:
    data = open_data("digits")
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx((float(pixels.mean()),))
    assert data.std == pytest.approx((float(pixels.std(correction=0)),))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_is_read_from_idx_files(tmp_path: Path, suffix: str) -> None:
    images, classes = torch.randint(0, 256, (30, 28, 28)), torch.arange(30) % 10
    for part in ("train", "t10k"):
        write_idx(tmp_path / "FashionMNIST/raw" / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(tmp_path / "FashionMNIST/raw" / f"{part}-labels-idx1-ubyte{suffix}", classes)
    data = open_data("fashion-mnist", Where(root=tmp_path))
    assert torch.equal(data.test.images, images.byte().unsqueeze(1))
    assert torch.equal(data.test.targets, classes)
    assert len(data.train) + len(data.valid) == 30
    assert data.classes[9] == "ankle boot"


def test_idx_of_another_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00\x00\x0d\x01\x00\x00\x00\x01")
    with pytest.raises(TrainError, match="not an idx file of bytes"):
        read_idx(tmp_path / "x")


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", per_class=2)
    data = open_data(str(tmp_path))
    assert data.classes == ("ant", "bee")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [14, 2, 4]
    assert data.shape == (3, 10, 10)
    assert data.test.images[:, 0, 0, 0].tolist() == [0, 1, 100, 101]
    assert data.test.targets.tolist() == [0, 0, 1, 1]


def test_one_folder_of_classes_is_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos")
    data = open_data(str(tmp_path / "photos"))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [11, 1, 4]


def test_images_of_other_forms_are_cut_at_the_centre(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / "photos/a" / f"{number}.png", size=(30, 12))
    assert open_data(str(tmp_path / "photos")).shape == (3, 12, 12)
    assert open_data(str(tmp_path / "photos"), Where(image_size=9)).shape == (3, 9, 9)


def test_decoded_images_come_from_the_cache_until_a_file_changes(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos")
    first = open_data(str(tmp_path / "photos"))
    cached = list((tmp_path / "cache/campfire_fx").iterdir())
    assert len(cached) == 1
    assert torch.equal(open_data(str(tmp_path / "photos")).train.images, first.train.images)
    assert list((tmp_path / "cache/campfire_fx").iterdir()) == cached
    write_image(tmp_path / "photos/ant/0.png", colour=255)
    changed = open_data(str(tmp_path / "photos"))
    assert sum(int((part.images == 255).any()) for part in (changed.train, changed.valid, changed.test)) == 1


def break_one(root: Path) -> Path:
    """Cut the file of one image off in its middle."""
    path = root / "bee" / "3.png"
    write_image(path, size=(40, 40), colour=7)
    path.write_bytes(path.read_bytes()[:60])
    return path


@pytest.mark.parametrize("content", [b"no image", b"", "truncated"])
def test_an_unreadable_image_is_named_and_skipped(tmp_path: Path, content: bytes | str, caplog) -> None:
    root = tmp_path / "photos"
    write_classes(root)
    broken = break_one(root)
    if isinstance(content, bytes):
        broken.write_bytes(content)
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        data = open_data(str(root), Where(image_size=10))
        assert len(data.train) + len(data.valid) + len(data.test) == 15
        assert data.skips.names == [str(broken)]
        assert data.skips.summary() == f"1 image that cannot be read was skipped: {broken}."
        assert f"Image at {broken}: it cannot be read" in caplog.text


def test_an_unreadable_image_stops_a_strict_run(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_classes(root)
    broken = break_one(root)
    open_data(str(root), Where(image_size=10))  # the cache does not hide it
    with pytest.raises(TrainError, match=rf"Image at {broken}: it cannot be read \(.*\)\. Remove or replace it"):
        open_data(str(root), Where(image_size=10, strict=True))


def test_images_that_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "photos")
    monkeypatch.setattr("campfire_fx.app.train.decode._MOST_BYTES", 4799)
    with pytest.raises(TrainError, match="16 of 10 x 10 would take 4.8 kB of memory. Give --augment crop"):
        open_data(str(tmp_path / "photos"))


def test_where_no_image_can_be_read_it_says_so(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "0.png").write_bytes(b"no image")
    with pytest.raises(TrainError, match="Images of photos: none of 2 can be read"):
        open_data(str(tmp_path / "photos"))


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_nothing_is_fetched_unless_asked(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campfire_fx.app.train.sources._DEBIAN", tmp_path / "none")
    with pytest.raises(TrainError, match=r"not there. Give --download"):
        open_data(name, Where(root=tmp_path))


def test_unknown_data_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no such data set or folder"):
        open_data("imagenet-9000")
    with pytest.raises(TrainError, match="it has no folders of classes, so none were found"):
        open_data(str(tmp_path))


def test_train_and_test_must_have_the_same_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_image(tmp_path / "test/wasp/0.png")
    with pytest.raises(TrainError, match=r"not those of .*ant, bee, wasp"):
        open_data(str(tmp_path))


def test_resize_keeps_flat_images_flat() -> None:
    images = torch.full((3, 1, 8, 8), 200, dtype=torch.uint8)
    assert torch.equal(resize(images, 20), torch.full((3, 1, 20, 20), 200, dtype=torch.uint8))


def test_images_are_held_at_their_own_size_and_given_as_wanted() -> None:
    """Enlarged ones might not fit into the memory; what is counted over them is that of the enlarged ones."""
    small, large = open_data("digits"), open_data("digits", Where(image_size=32))
    assert large.train.stored.shape[2:] == (8, 8) and large.shape == (1, 32, 32)
    assert torch.equal(large.test[5:9].images, large.test.images[5:9])
    pixels = large.train.images.double() / 255
    assert large.mean == pytest.approx((float(pixels.mean()),)) and large.mean != small.mean


def test_other_channels_and_another_normalisation() -> None:
    data = open_data("digits", Where(held_out=0))
    found = data.given_as(3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (found.mean, found.std, found.shape) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (3, 16, 16))
    assert found.valid is found.test  # where the test images are both, still
    assert data.given_as(3).std == data.std * 3
