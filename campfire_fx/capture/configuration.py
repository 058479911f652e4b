"""What a model keeps among its attributes about the inputs it is made for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

_SIZE_NAMES = (
    "input_size", "image_size", "img_size", "input_shape", "input_resolution", "img_dim", "size", "crop_size",
    "resolution", "sequence_length", "seq_len", "seq_length", "input_length", "num_samples",
)  # fmt: skip
_FRAME_NAMES = ("num_frames", "n_frames", "frames", "clip_len", "temporal_size")
_CHANNEL_NAMES = ("in_chans", "in_channels", "num_channels", "input_channels", "n_channels", "channels")
_HOLDERS = ("default_cfg", "pretrained_cfg", "config", "cfg", "hparams", "args")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Sizes, frame counts and channel counts found, in the order in which to try them."""

    sizes: tuple[tuple[int, ...], ...]
    frames: tuple[int, ...]
    channels: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module) -> Configuration:
        """Read the attributes of the model, of its configuration objects, and of its modules."""
        sources = list(_sources(model))
        sizes = [_sizes(value) for value in _values(sources, _SIZE_NAMES)]
        frames = [value for value in _values(sources, _FRAME_NAMES) if _is_count(value)]
        channels = [value for value in _values(sources[:8], _CHANNEL_NAMES) if _is_count(value)]
        channels += [size[0] for size in sizes if len(size) == 3 and size[0] <= 16]
        return cls(tuple(dict.fromkeys(s for s in sizes if s)), tuple(dict.fromkeys(frames)), tuple(channels))

    def spatial(self, dimensions: int) -> list[tuple[int, ...]]:
        """Return the sizes found as sizes of this many spatial dimensions."""
        found: list[tuple[int, ...]] = []
        for size in self.sizes:
            edge = size[-1]
            if dimensions == 1:
                found.append((edge,))
            elif dimensions == 2:
                found.append(size[-2:] if len(size) > 1 else (edge, edge))
            else:
                found.extend((frames, *(size[-2:] if len(size) > 1 else (edge, edge))) for frames in self.frames)
                found.append(size[-3:] if len(size) > 2 else (edge, edge, edge))
        return found


def _sources(model: nn.Module) -> Iterator[Any]:
    """Yield what may hold a configuration, the model's own first."""
    yield model.__dict__
    for name in _HOLDERS:
        holder = model.__dict__.get(name)
        if isinstance(holder, dict):
            yield holder
        elif holder is not None and hasattr(holder, "__dict__"):
            yield vars(holder)
    yield from (module.__dict__ for module in model.modules() if module is not model)


def _values(sources: list[Any], names: tuple[str, ...]) -> list[Any]:
    return [source[name] for name in names for source in sources if name in source]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20


def _sizes(value: Any) -> tuple[int, ...]:
    if _is_count(value):
        return (value,)
    if isinstance(value, (tuple, list)) and 1 <= len(value) <= 4 and all(_is_count(item) for item in value):
        return tuple(value)
    return ()
