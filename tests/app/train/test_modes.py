"""Pictures of every mode that PIL knows come out as they look, or are refused by name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from campfire_fx.app.train.batches import plain_batches
from campfire_fx.app.train.data import Where, open_data
from campfire_fx.app.train.modes import to_mode
from campfire_fx.base.errors import TrainError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
REFUSED = {"I": "32-bit numbers", "F": "floats"}
ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}


def grey_ramp(mode: str) -> Image.Image:
    """Grey from black to white in a mode."""
    image = Image.fromarray(RAMP)
    if mode.startswith("I;16"):
        wide = Image.new(mode, image.size)
        wide.frombytes((RAMP.astype(np.uint16) * 257).astype(">u2" if mode.endswith("B") else "<u2").tobytes())
        return wide
    if mode == "LAB":
        return Image.merge("LAB", [image, *[Image.new("L", image.size, 128)] * 2])
    if mode == "PA":
        return image.convert("P").convert("PA")
    straight = {"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB" if mode in ("HSV", "CMYK", "RGBX", "YCbCr") else mode)
    return image.convert(straight).convert(mode)


def pixels(image: Image.Image, mode: str = "L") -> np.ndarray[Any, Any]:
    result = to_mode(image, mode)
    assert result.mode == mode
    return np.asarray(result).astype(int)


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_of_pil(mode: str) -> None:
    image = grey_ramp(mode)
    if mode in REFUSED:
        with pytest.raises(ValueError, match=rf"its pixels are {REFUSED[mode]} \(mode {mode}\), of which black"):
            to_mode(image, "RGB")
        return
    colour, grey = pixels(image, "RGB"), pixels(image)
    if mode == "1":
        expected = np.asarray(image).astype(int) * 255
    elif mode == "LAB":  # lightness is no grey value: black and white are, and what is between rises
        assert grey[0, 0] == 0 and grey[-1, -1] == 255 and (np.diff(grey.flatten()) >= 0).all()
        expected = grey
    else:
        expected = RAMP.astype(int)
    assert np.abs(grey - expected).max() <= 1
    assert np.abs(colour - expected[..., None]).max() <= 1


@pytest.mark.parametrize("mode", sorted(ALPHA))
def test_what_is_transparent_is_white(mode: str) -> None:
    image = grey_ramp({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    image.putalpha(Image.fromarray(np.repeat(np.array([[0, 128, 255, 255]], np.uint8), 16, 0).repeat(4, 1)))
    got = pixels(image.convert(mode))
    assert (got[:, :4] == 255).all()
    assert np.abs(got[:, 4:8] - (RAMP[:, 4:8] * 128.0 + 255 * 127) / 255).max() <= 2
    assert np.abs(got[:, 8:].astype(int) - RAMP[:, 8:]).max() <= 1


@pytest.mark.parametrize("kind", ["palette index", "palette table", "palette with alpha", "grey", "colour", "16 bits"])
def test_transparency_that_is_written_elsewhere(kind: str) -> None:
    """PNG's chunk for one value or a table, and palettes."""
    image = Image.fromarray(RAMP)
    options: dict[str, Any] = {"transparency": 7}
    if kind == "palette index":
        image = image.convert("P")
    elif kind == "palette table":
        image, options = image.convert("P"), {"transparency": bytes([255] * 7 + [0] + [255] * 248)}
    elif kind == "palette with alpha":
        image = Image.new("P", (16, 16))
        image.frombytes(RAMP.tobytes())
        image.putpalette([v for i in range(256) for v in (i, i, i, 0 if i == 7 else 255)], "RGBA")
        options = {}
    elif kind == "colour":
        image, options = image.convert("RGB"), {"transparency": (7, 7, 7)}
    elif kind == "16 bits":
        image, options = Image.fromarray(RAMP.astype(np.uint16) * 257), {}
        image.info["transparency"] = 7 * 257
    if options:
        image = saved(image, "PNG", **options)
    expected = RAMP.astype(int)
    expected[expected == 7] = 255
    assert np.array_equal(pixels(image), expected)


def saved(image: Image.Image, form: str, **options: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(file)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_in_a_file_are_scaled(form: str) -> None:
    wide = RAMP.astype(np.uint16) * 257
    wide[0, 1], wide[0, 2] = 128, 129  # to the nearest
    got = pixels(saved(Image.fromarray(wide), form))
    assert got[0, :3].tolist() == [0, 0, 1] and np.array_equal(got.flatten()[3:], RAMP.flatten()[3:])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [({258: 16}, [0, 16, 32]), ({258: 12}, [0, 255, None]), ({262: 0}, [255, 239, 223])],
)
def test_tags_of_tiff(tags: dict[int, int], expected: list[int | None]) -> None:
    """Twelve bits, which a reader leaves as they are, and white for zero."""
    image: Any = Image.fromarray(np.array([[0, 4095, 8191]], np.uint16))
    image.tag_v2 = {258: (tags.get(258, 16),), **{key: value for key, value in tags.items() if key != 258}}
    if expected[-1] is None:
        with pytest.raises(ValueError, match="its pixels .mode I;16. go beyond 4095, which is white"):
            to_mode(image, "L")
        image = image.crop((0, 0, 2, 1))
        image.tag_v2 = {258: (12,)}
        expected = expected[:2]
    assert np.asarray(to_mode(image, "L")).flatten().tolist() == expected


def test_colours_of_cmyk() -> None:
    image = Image.new("CMYK", (2, 1))
    image.putpixel((0, 0), (0, 255, 255, 0))
    image.putpixel((1, 0), (255, 0, 0, 128))
    assert pixels(image, "RGB").tolist() == [[[255, 0, 0], [0, 127, 127]]]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_folder_of_many_modes(tmp_path: Path, streamed: bool, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "test"):
        for name, value in (("dark", 20), ("light", 200)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.new("L", (12, 12), value).save(folder / f"{index}.png")
            Image.fromarray(np.full((12, 12), value * 257, np.uint16)).save(folder / "wide.png")
            Image.new("LA", (12, 12), (value, 255)).save(folder / "alpha.png")
            Image.new("F", (12, 12), value / 255).save(folder / "floats.tiff")
    data = open_data(str(tmp_path), Where(image_size=8, streamed=streamed, held_out=0.0))
    found = []
    for images, targets in plain_batches(data.test, data):
        greys = (images * data.std[0] + data.mean[0])[:, 0].mean((1, 2)) * 255
        found += zip(targets.tolist(), greys.round().int().tolist(), strict=True)
    assert sorted(found) == [(0, 20)] * 5 + [(1, 200)] * 5
    assert "floats (mode F), of which black and white are not known" in caplog.text


def test_nothing_but_modes_that_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("F", (12, 12), 0.5).save(tmp_path / name / "0.tiff")
    with pytest.raises(TrainError, match="none of 2 can be read"):
        open_data(str(tmp_path), Where(image_size=8))
