"""Folders of images: ImageNet's and Tiny-ImageNet's layouts are listed; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from campfire_fx.app.train.data import Where, open_data
from campfire_fx.app.train.folders import list_folder
from campfire_fx.base.errors import TrainError


def write_image(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 10), (colour, 0, 0)).save(path, quality=95)


def write_imagenet(root: Path) -> None:
    for index, name in enumerate(("n01440764", "n01443537")):
        for number in range(4):
            write_image(root / "train" / name / f"{name}_{number}.JPEG", 100 * index)
        write_image(root / "val" / name / f"ILSVRC2012_val_{index}.JPEG", 100 * index)
    write_image(root / "test" / "ILSVRC2012_test_1.JPEG")  # nobody knows its class


def write_tiny(root: Path) -> None:
    for index, name in enumerate(("n01443537", "n01629819")):
        for number in range(4):
            write_image(root / "train" / name / "images" / f"{name}_{number}.JPEG", 100 * index)
        (root / "train" / name / f"{name}_boxes.txt").write_text("not an image")
    lines = []
    for number, name in enumerate(("n01629819", "n01443537", "n01629819")):
        write_image(root / "val" / "images" / f"val_{number}.JPEG", number)
        lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write_image(root / "test" / "images" / "test_0.JPEG")  # a folder, but no class


def test_imagenet_layout(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    folder = list_folder(tmp_path)
    assert folder.classes == ("n01440764", "n01443537")
    assert folder.train.targets == (0, 0, 0, 0, 1, 1, 1, 1)
    assert folder.test is not None
    assert [Path(path).name for path in folder.test.paths] == ["ILSVRC2012_val_0.JPEG", "ILSVRC2012_val_1.JPEG"]
    assert folder.test.targets == (0, 1)


def test_tiny_imagenet_layout(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    folder = list_folder(tmp_path)
    assert folder.classes == ("n01443537", "n01629819")
    assert folder.train.targets == (0, 0, 0, 0, 1, 1, 1, 1)
    assert folder.test is not None and folder.test.targets == (1, 0, 1)
    assert folder.test.paths[2] == str(tmp_path / "val/images/val_2.JPEG")


@pytest.mark.parametrize("streamed", [False, True])
def test_tiny_imagenet_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tiny(tmp_path / "tiny")
    data = open_data(str(tmp_path / "tiny"), Where(held_out=0, image_size=10, streamed=streamed))
    assert (len(data.train), len(data.test), data.shape) == (8, 3, (3, 10, 10))
    assert data.valid is data.test


def test_files_that_the_list_names_and_that_are_gone_are_skipped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tiny(tmp_path / "tiny")
    gone = tmp_path / "tiny/val/images/val_1.JPEG"
    gone.unlink()
    data = open_data(str(tmp_path / "tiny"), Where(held_out=0))
    assert len(data.test) == 2 and data.skips.names == [str(gone)]


@pytest.mark.parametrize("line", ["val_9.JPEG\tn09999999\t0\t0\t1\t1", "val_9.JPEG n01443537", ""])
def test_a_line_that_names_no_class_is_refused(tmp_path: Path, line: str) -> None:
    write_tiny(tmp_path)
    with (tmp_path / "val/val_annotations.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(TrainError, match=r"Line 4 of .*val_annotations.txt: it does not name a file and one of the cl"):
        list_folder(tmp_path)


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(TrainError, match=r"Images at .*: it has no folders of classes"):
        list_folder(tmp_path)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    (tmp_path / "train" / "n02000000").mkdir()
    with pytest.raises(TrainError, match=r"Images at .*n02000000: none were found"):
        list_folder(tmp_path)
