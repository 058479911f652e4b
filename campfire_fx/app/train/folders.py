"""Folders of images: which files there are and of which class, in the layouts of ImageNet and of Tiny-ImageNet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from campfire_fx.app.train.pictures import Files, Listed
from campfire_fx.base.errors import TrainError

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_TEST_FOLDERS = ("test", "val", "valid", "validation")
_ANNOTATIONS = "val/val_annotations.txt"


def list_folder(root: Path) -> Listed:
    """List the images of a folder, without reading any.

    Layouts: train/ and test/ (or val/) of one folder per class each, as ImageNet's; train/ of one folder per class and
    val/ with val_annotations.txt, which says the class of each file of val/images/, as Tiny-ImageNet's; or one folder
    per class and nothing else. Images are found at any depth of a class's folder; classes are sorted by name.

    Raises:
        TrainError: there is no class folder, a class without an image, or train and test differ in their classes.
    """
    if not (root / "train").is_dir():
        classes = _classes(root)
        return Listed(_files(root, classes), None, classes)
    classes = _classes(root / "train")
    train = _files(root / "train", classes)
    if (root / _ANNOTATIONS).is_file():
        return Listed(train, _annotated(root / _ANNOTATIONS, classes), classes)
    apart = _test_folder(root, classes)
    return Listed(train, None if apart is None else _files(apart, classes, every=False), classes)


def _classes(root: Path) -> tuple[str, ...]:
    found = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if not found:
        raise TrainError(
            f"Images at {root}: it has no folders of classes, so none were found."
            f" Give a folder that has one folder of images per class."
        )
    return found


def _files(root: Path, classes: tuple[str, ...], *, every: bool = True) -> Files:
    """List the images of each class; `every`: a class without one is an error."""
    listed: list[tuple[Path, int]] = []
    for index, name in enumerate(classes):
        found = [(path, index) for path in _images(root / name)]
        if every and not found:
            raise TrainError(f"Images at {root / name}: none were found. Put the class's images there, or remove it.")
        listed += found
    return Files(tuple(str(path) for path, _ in listed), tuple(target for _, target in listed))


def _images(root: Path) -> Iterator[Path]:
    return iter(sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES))


def _test_folder(root: Path, classes: tuple[str, ...]) -> Path | None:
    """Return the folder of test images; ImageNet's and Tiny-ImageNet's own test/ has no classes, and is passed over."""
    named = [root / name for name in _TEST_FOLDERS if (root / name).is_dir()]
    apart = [path for path in named if any(entry.is_dir() for entry in path.iterdir())]
    for path in apart:
        if _classes(path) == classes:
            return path
    if not apart:
        return None
    odd = sorted(set(classes) ^ set(_classes(apart[0])))
    raise TrainError(
        f"Classes of {apart[0]}: they are not those of {root / 'train'} ({', '.join(odd[:3])})."
        f" Give both the same class folders."
    )


def _annotated(path: Path, classes: tuple[str, ...]) -> Files:
    """Read Tiny-ImageNet's list: a line per image, file name and class first, separated by tabs."""
    index = {name: position for position, name in enumerate(classes)}
    paths, targets = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, rest = line.partition("\t")
        target = index.get(rest.partition("\t")[0].strip())
        if target is None:
            raise TrainError(
                f"Line {number} of {path}: it does not name a file and one of the classes of train/. Fix the line."
            )
        paths.append(str(path.parent / "images" / name))
        targets.append(target)
    return Files(tuple(paths), tuple(targets))
