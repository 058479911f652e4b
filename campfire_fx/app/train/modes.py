"""Pixel modes: every mode of PIL as 8-bit colour or grey, scaled, not clipped; or refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_SCALED = ("PNG", "PPM")  # formats whose readers bring "I", 32 bits wide, to 16 bits
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # without the alpha that the colours are multiplied by
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF


def to_mode(image: Image, mode: str) -> Image:
    """Return a picture as 8-bit "RGB" or "L".

    Sixteen bits are scaled to eight. What is transparent shows white.

    Raises:
        ValueError: its numbers have no known range.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SCALED):
        image = _eight_bits(image)
    elif image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "32-bit numbers"
        raise ValueError(f"its pixels are {kind} (mode {image.mode}), of which black and white are not known")
    if image.mode in _ALPHA or "transparency" in image.info or getattr(image.palette, "mode", "").endswith("A"):
        image = _on_white(image)
    if image.mode == "LAB":
        image = image.convert("RGB")  # the only one that it can become
    return image.convert(mode)


def _eight_bits(image: Image) -> Image:
    """Return a grey picture of 16 bits as "L", or as "LA" where one value is transparent."""
    from PIL import Image as Pil

    raw = np.asarray(image).astype(np.uint32)
    tags = getattr(image, "tag_v2", {})
    largest = 2 ** (tags.get(_BITS) or (16,))[0] - 1  # 12 bits of a TIFF are not scaled by its reader
    if raw.max(initial=0) > largest:
        raise ValueError(f"its pixels (mode {image.mode}) go beyond {largest}, which is white")
    grey = ((raw * 255 + largest // 2) // largest).astype(np.uint8)
    result = Pil.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey)
    clear = image.info.get("transparency")
    if clear is None:
        return result
    result.putalpha(Pil.fromarray(np.where(raw == clear, 0, 255).astype(np.uint8)))
    return result


def _on_white(image: Image) -> Image:
    from PIL import Image as Pil

    image = image.convert(_STRAIGHT.get(image.mode, image.mode)).convert("RGBA")
    return Pil.alpha_composite(Pil.new("RGBA", image.size, "white"), image).convert("RGB")
